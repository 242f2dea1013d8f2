"""What follows a convolution before its outputs are stored, against NumPy on the plain outputs."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from caffetools.engine.cpu.conv_channels import ChannelsProduct
from caffetools.engine.cpu.conv_lanes import LanesProduct
from caffetools.engine.cpu.conv_products import BackwardProduct, ForwardProduct
from caffetools.engine.cpu.finish import Finish
from tests.engine.test_conv import CASES, LANES_CASES, make


def finished(y, finish):
    value = y * finish.scale[:, None, None] + finish.shift[:, None, None]
    if finish.residual is not None:
        value = value + finish.residual
    return np.where(value < 0, finish.slope * value, value)


def finish_for(y, residual, slope):
    rng = np.random.default_rng(3)
    scale, shift = rng.standard_normal((2, y.shape[1])).astype(y.dtype)
    more = rng.standard_normal(y.shape).astype(y.dtype) if residual else None
    return Finish(scale, shift, more, slope)


def check(run, y, finish):
    plain, out = np.full_like(y, np.nan), np.full_like(y, np.nan)
    run(plain, None)
    run(out, finish)
    tolerance = 1e-5 * np.abs(plain).max()
    np.testing.assert_allclose(out, finished(plain, finish), rtol=1e-5, atol=tolerance)


@pytest.mark.parametrize(("residual", "slope"), [(False, 0.0), (True, 0.0), (True, 0.25), (False, 1.0)])
@pytest.mark.parametrize("case", CASES)
def test_finished(case, residual, slope):
    plan, x, w, bias, y, _ = make(case, np.float32)
    check(lambda out, finish: plan.forward(x, w, bias, out, finish), y, finish_for(y, residual, slope))


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("case", LANES_CASES)
def test_images_as_lanes_finished(case, residual):
    plan, x, w, bias, y, _ = make(case, np.float32)
    product = LanesProduct(plan.geometry, transposed=False)
    check(lambda out, finish: product.run(x, w, bias, out, finish), y, finish_for(y, residual, 0.0))


def test_finished_in_double_precision():
    plan, x, w, bias, y, _ = make("small_planes", np.float64)
    check(lambda out, finish: plan.forward(x, w, bias, out, finish), y, finish_for(y, True, 0.0))


@pytest.mark.parametrize("case", ["cifar_conv1", "small_planes", "depthwise", "winograd"])
def test_nan_goes_through(case):
    plan, x, w, bias, y, _ = make(case, np.float32)
    ones, zeros = np.ones(y.shape[1], np.float32), np.zeros(y.shape[1], np.float32)
    x[0, 0, 2, 2] = np.nan
    plan.forward(x, w, bias, y, Finish(ones, zeros, None, 0.0))
    plain = np.empty_like(y)
    plan.forward(x, w, bias, plain)
    assert np.isnan(plain).any()
    assert (np.isnan(y) == np.isnan(plain)).all()
    assert (y[~np.isnan(y)] == np.maximum(plain[~np.isnan(y)], 0)).all()


def check_among_others(run, y):
    """What `run(y, finish, channel)` computes must not depend on where in a larger array it goes."""
    finish = finish_for(y, False, 0.0)
    alone, together = np.full_like(y, np.nan), np.full((y.shape[0], y.shape[1] + 5, *y.shape[2:]), 7, y.dtype)
    run(alone, finish, 0)
    run(together, finish, 3)
    assert np.array_equal(together[:, 3:-2], alone)
    assert (together[:, :3] == 7).all() and (together[:, -2:] == 7).all()


@pytest.mark.parametrize("case", CASES)
def test_among_other_channels(case):
    plan, x, w, bias, y, _ = make(case, np.float32)
    check_among_others(lambda y, finish, channel: plan.forward(x, w, bias, y, finish, None, channel), y)


@pytest.mark.parametrize("way", [ForwardProduct, partial(ChannelsProduct, transposed=False)])
@pytest.mark.parametrize("case", CASES)
def test_every_way_among_other_channels(case, way):
    plan, x, w, bias, y, _ = make(case, np.float32)
    product = way(plan.geometry)
    check_among_others(lambda y, finish, channel: product.run(x, w, bias, y, finish, None, channel), y)


@pytest.mark.parametrize("case", LANES_CASES)
def test_images_as_lanes_among_other_channels(case):
    plan, x, w, bias, y, _ = make(case, np.float32)
    product = LanesProduct(plan.geometry, transposed=False)
    check_among_others(lambda y, finish, channel: product.run(x, w, bias, y, finish, None, channel), y)


@pytest.mark.parametrize("case", CASES)
def test_gradient_among_other_channels(case):
    plan, x, w, _, dy, _ = make(case, np.float32)
    product = BackwardProduct(plan.geometry)
    alone, together = np.full_like(x, np.nan), np.full((x.shape[0], x.shape[1] + 5, *x.shape[2:]), 7, x.dtype)
    product.run(dy, w, None, alone)
    product.run(dy, w, None, together, channel=3)
    assert np.array_equal(together[:, 3:-2], alone)
    assert (together[:, :3] == 7).all() and (together[:, -2:] == 7).all()
