"""Every way to convolve, whether a plan would choose it or not, against the slow reference in float64."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from caffetools.engine.cpu.conv import ConvPlan
from caffetools.engine.cpu.conv_channels import ChannelsProduct
from caffetools.engine.cpu.conv_channels_weights import ChannelsFilterGradient
from caffetools.engine.cpu.conv_products import BackwardProduct, ForwardProduct
from caffetools.engine.cpu.conv_weights import FilterGradient
from caffetools.engine.cpu.finish import Finish
from tests.engine import reference
from tests.engine.test_conv import CASES, assert_close, make


def channels(geometry):
    return ChannelsProduct(geometry, False), ChannelsProduct(geometry, True), ChannelsFilterGradient(geometry)


def pixels(geometry):
    return ForwardProduct(geometry), BackwardProduct(geometry), FilterGradient(geometry)


def results(ways, x, w, bias, dy):
    """Return y, dx, and dw and db added to ones."""
    forward, backward_data, backward_weights = ways
    y, dx, dw, db = np.full_like(dy, np.nan), np.full_like(x, np.nan), np.ones_like(w), np.ones_like(bias)
    forward.run(x, w, bias, y)
    backward_data.run(dy, w, None, dx)
    backward_weights.run(x, dy, dw, db)
    return y, dx, dw, db


def check(ways, case, dtype=np.float32):
    plan, x, w, bias, dy, settings = make(case, dtype)
    y, dx, dw, db = results(ways(plan.geometry), x, w, bias, dy)
    assert_close(y, reference.conv_forward(x, w, bias, *settings, plan.y_shape))
    assert_close(dx, reference.conv_backward_data(dy, w, *settings, x.shape))
    wanted_dw, wanted_db = reference.conv_backward_weights(x, dy, w.shape, *settings)
    assert_close(dw, wanted_dw + 1)
    assert_close(db, wanted_db + 1)


@pytest.mark.parametrize("ways", [channels, pixels])
@pytest.mark.parametrize("case", CASES)
def test_against_reference(case, ways):
    check(ways, case)


@pytest.mark.parametrize("case", ["stride_and_dilation", "groups"])
def test_float64(case):
    check(channels, case, np.float64)


@pytest.mark.parametrize("bytes_of_a_block", [0, 1 << 20])
@pytest.mark.parametrize("case", ["lenet_conv2", "groups", "rows_and_columns_differ", "stride_and_dilation"])
def test_images_turned_by_blocks_or_for_all(case, bytes_of_a_block, monkeypatch):
    monkeypatch.setattr("caffetools.engine.cpu.conv_channels.OWN_BYTES", bytes_of_a_block)
    monkeypatch.setattr("caffetools.engine.cpu.conv_channels.BLOCKS_PER_THREAD", 0)
    monkeypatch.setattr("caffetools.engine.cpu.conv_channels.MOST_TURNS", 100)
    check(channels, case)


@pytest.mark.parametrize("case", ["lenet_conv2", "cifar_conv1", "stride_beyond_filter", "small_planes"])
def test_few_images_and_rows_at_a_time(case, monkeypatch):
    monkeypatch.setattr("caffetools.engine.cpu.conv_channels.GROUP_BYTES", 1000)
    monkeypatch.setattr("caffetools.engine.cpu.conv_channels.BLOCK_PIXELS", 30)
    monkeypatch.setattr("caffetools.engine.cpu.conv_channels.FEWEST_PIXELS", 10)
    monkeypatch.setattr("caffetools.engine.cpu.conv_channels_weights.GROUP_BYTES", 1000)
    monkeypatch.setattr("caffetools.engine.cpu.conv_channels_weights.FEWEST_PIXELS", 1)
    monkeypatch.setattr("caffetools.engine.cpu.conv_channels_weights.PIXEL_BLOCK", 20)
    monkeypatch.setattr("caffetools.engine.cpu.conv_channels_weights.FEWEST_PANELS", 1)
    check(channels, case)


@pytest.mark.parametrize("case", ["cifar_conv1", "stride_and_dilation", "pad_beyond_filter"])
def test_finished_outputs(case):
    plan, x, w, bias, dy, settings = make(case, np.float32)
    scale, shift = np.linspace(0.5, 2, len(bias), dtype=np.float32), bias[::-1].copy()
    y = np.full_like(dy, np.nan)
    ChannelsProduct(plan.geometry, False).run(x, w, bias, y, Finish(scale, shift, dy, 0.25))
    wanted = reference.conv_forward(x, w, bias, *settings, plan.y_shape)
    wanted = wanted * scale[:, None, None] + shift[:, None, None] + dy
    assert_close(y, np.where(wanted > 0, wanted, 0.25 * wanted))


def test_strided_convolutions_have_channels_as_lanes():
    plan = ConvPlan((8, 128, 56, 56), (128, 128, 3, 3), 2, 1)
    assert isinstance(plan._forward, ChannelsProduct)
    assert isinstance(plan._backward_data, ChannelsProduct)
    assert isinstance(plan._backward_weights, ChannelsFilterGradient)


@pytest.mark.parametrize("case", ["lenet_conv2", "groups", "stride_and_dilation", "pointwise_stride_2"])
def test_results_do_not_depend_on_the_number_of_threads(case):
    if numba.config.NUMBA_NUM_THREADS < 2:
        pytest.skip("one thread only")
    plan, x, w, bias, dy, _ = make(case, np.float32)
    both = []
    for threads in (1, 2):
        numba.set_num_threads(threads)
        both.append(results(channels(plan.geometry), x, w, bias, dy))
    numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)
    for one, two in zip(*both, strict=True):
        np.testing.assert_array_equal(one, two)
