"""What follows a convolution before its outputs are stored, against NumPy on the plain outputs."""

from __future__ import annotations

import numpy as np
import pytest

from caffetools.engine.cpu.conv_lanes import LanesProduct
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
