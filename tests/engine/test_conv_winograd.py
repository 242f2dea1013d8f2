"""Winograd's convolution against the slow reference in float64."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from caffetools.engine.cpu import conv_winograd
from caffetools.engine.cpu.conv import ConvPlan
from caffetools.engine.cpu.conv_channels import ChannelsProduct
from caffetools.engine.cpu.conv_channels_weights import ChannelsFilterGradient
from caffetools.engine.cpu.conv_winograd import WinogradProduct, is_winograd
from caffetools.engine.cpu.conv_winograd_cuts import cut_for
from caffetools.engine.cpu.conv_winograd_weights import WinogradFilterGradient
from caffetools.engine.cpu.winograd import matrices
from tests.engine import reference
from tests.engine.test_conv import assert_close

# images, channels, outputs, pad, group, image
CASES = {
    "square": (2, 32, 32, (1, 1), 1, (12, 12)),
    "odd_planes": (3, 20, 40, (1, 1), 1, (13, 7)),
    "without_padding": (2, 17, 50, (0, 0), 1, (9, 18)),
    "pads_differ": (2, 16, 33, (2, 0), 1, (6, 5)),
    "groups": (2, 36, 60, (1, 1), 3, (10, 10)),
    "few_channels": (1, 3, 5, (1, 1), 1, (20, 37)),
    "one_channel_a_group": (2, 4, 8, (1, 1), 4, (8, 8)),
    "many_channels": (1, 600, 33, (1, 1), 1, (7, 7)),
    "one_pixel": (2, 16, 16, (1, 1), 1, (1, 1)),
    "one_output": (2, 16, 16, (0, 0), 1, (3, 3)),
    "wide": (1, 16, 16, (1, 1), 1, (3, 300)),
}


def make(case):
    images, channels, outputs, pad, group, size = CASES[case]
    rng = np.random.default_rng(3)
    x = rng.standard_normal((images, channels, *size), np.float32)
    w = rng.standard_normal((outputs, channels // group, 3, 3), np.float32)
    plan = ConvPlan(x.shape, w.shape, 1, pad, 1, group)
    dy = rng.standard_normal(plan.y_shape, np.float32)
    return plan.geometry, x, w, rng.standard_normal(outputs, np.float32), dy


def products(case):
    """Return y and dx, and both by the reference."""
    geometry, x, w, bias, dy = make(case)
    ways = [WinogradProduct(geometry, transposed) for transposed in (False, True)]
    y, dx = np.full_like(dy, np.nan), np.full_like(x, np.nan)
    ways[0].run(x, w, bias, y)
    ways[1].run(dy, w, None, dx)
    settings = (1, 1), geometry.pad, (1, 1), geometry.group
    wanted_y = reference.conv_forward(x, w, bias, *settings, dy.shape)
    return y, dx, wanted_y, reference.conv_backward_data(dy, w, *settings, x.shape)


def filter_gradients(case):
    """Return dw and db, added to ones, and both by the reference."""
    geometry, x, w, bias, dy = make(case)
    dw, db = np.ones_like(w), np.ones_like(bias)
    WinogradFilterGradient(geometry).run(x, dy, dw, db)
    wanted = reference.conv_backward_weights(x, dy, w.shape, (1, 1), geometry.pad, (1, 1), geometry.group)
    return dw, db, wanted[0] + 1, wanted[1] + 1


def test_transforms_make_a_convolution():
    image, taps, result = (matrices()[name] for name in ("image", "filter", "result"))
    rng = np.random.default_rng(0)
    d, w = rng.standard_normal(6), rng.standard_normal(3)
    wanted = [d[i : i + 3] @ w for i in range(4)]
    np.testing.assert_allclose(result @ ((taps @ w) * (image @ d)), wanted, rtol=1e-12)
    for matrix in (image, result):
        np.testing.assert_array_equal(matrix.astype(np.float32), matrix)


@pytest.mark.parametrize("case", CASES)
def test_against_reference(case):
    y, dx, wanted_y, wanted_dx = products(case)
    assert_close(y, wanted_y)
    assert_close(dx, wanted_dx)
    dw, db, wanted_dw, wanted_db = filter_gradients(case)
    assert_close(dw, wanted_dw)
    assert_close(db, wanted_db)


@pytest.mark.parametrize("rectified", [False, True])
@pytest.mark.parametrize(
    ("images", "channels", "outputs", "size"),
    [
        (2, 64, 64, 56),
        (2, 256, 96, 28),
        (1, 512, 64, 14),
        (4, 192, 96, 13),
        (4, 256, 64, 7),
        (2, 3, 64, 56),
        (8, 32, 32, 28),
    ],
)
def test_error_is_less_than_ten_times_that_of_the_plain_sum(images, channels, outputs, size, rectified):
    rng = np.random.default_rng(11)
    x = rng.standard_normal((images, channels, size, size), np.float32)
    x = np.maximum(x, 0) if rectified else x
    w = rng.standard_normal((outputs, channels, 3, 3), np.float32) * np.float32(np.sqrt(2 / (9 * channels)))
    geometry = ConvPlan(x.shape, w.shape, 1, 1).geometry
    dy = rng.standard_normal(geometry.y_shape, np.float32)

    def run(forward, backward_data, backward_weights):
        y, dx, dw = np.empty_like(dy), np.empty_like(x), np.zeros_like(w)
        forward.run(x, w, None, y)
        backward_data.run(dy, w, None, dx)
        backward_weights.run(x, dy, dw, None)
        return y, dx, dw

    ours = run(*(WinogradProduct(geometry, t) for t in (False, True)), WinogradFilterGradient(geometry))
    plain = run(*(ChannelsProduct(geometry, t) for t in (False, True)), ChannelsFilterGradient(geometry))
    settings = (1, 1), (1, 1), (1, 1), 1
    wanted = (
        reference.conv_forward(x, w, np.zeros(outputs), *settings, dy.shape),
        reference.conv_backward_data(dy, w, *settings, x.shape),
        reference.conv_backward_weights(x, dy, w.shape, *settings)[0],
    )
    for result, other, exact in zip(ours, plain, wanted, strict=True):
        error, plain_error = np.abs(result - exact), np.abs(other - exact)
        assert error.max() <= 10 * plain_error.max()
        assert np.sqrt((error**2).mean()) <= 7 * np.sqrt((plain_error**2).mean())
        assert error.max() <= 1e-5 * np.abs(exact).max()


def test_more_images_than_are_transformed_together(monkeypatch):
    monkeypatch.setattr("caffetools.engine.cpu.conv_winograd_cuts.GROUP_BYTES", 20_000)
    monkeypatch.setattr("caffetools.engine.cpu.conv_winograd_cuts.BLOCK_TILES", 5)
    monkeypatch.setattr("caffetools.engine.cpu.conv_winograd_weights.GROUP_BYTES", 100_000)
    monkeypatch.setattr("caffetools.engine.cpu.conv_winograd_weights.K_BLOCK", 4)
    test_against_reference("odd_planes")
    test_against_reference("groups")


def test_bias_is_optional():
    geometry, x, w, bias, dy = make("odd_planes")
    y = np.empty_like(dy)
    WinogradProduct(geometry, False).run(x, w, None, y)
    assert_close(y, reference.conv_forward(x, w, 0 * bias, (1, 1), (1, 1), (1, 1), 1, y.shape))
    dw = np.zeros_like(w)
    WinogradFilterGradient(geometry).run(x, dy, dw, None)
    assert_close(dw, reference.conv_backward_weights(x, dy, w.shape, (1, 1), (1, 1), (1, 1), 1)[0])


@pytest.mark.parametrize("case", ["square", "groups"])
def test_results_do_not_depend_on_the_number_of_threads(case):
    if numba.config.NUMBA_NUM_THREADS < 2:
        pytest.skip("one thread only")
    results = []
    for threads in (1, 2):
        numba.set_num_threads(threads)
        results.append((*products(case)[:2], *filter_gradients(case)[:2]))
    numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)
    for one, two in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("threads", [4, 16, 64])
@pytest.mark.parametrize("case", ["square", "odd_planes", "groups", "many_channels", "wide"])
def test_cuts_for_many_threads_give_the_same_bits(case, threads, monkeypatch):
    wanted = products(case)[:2]
    monkeypatch.setattr(conv_winograd, "cut_for", lambda work, _, packed: cut_for(work, threads, packed))
    for one, many in zip(wanted, products(case)[:2], strict=True):
        np.testing.assert_array_equal(one, many)


@pytest.mark.parametrize("cut", [(1, 36), (2, 1), (2, 4)])
@pytest.mark.parametrize("case", ["odd_planes", "groups", "many_channels"])
def test_gradients_of_filters_have_the_same_bits_however_they_are_cut(case, cut, monkeypatch):
    wanted = filter_gradients(case)[:2]
    parts = min(cut[0], WinogradFilterGradient(make(case)[0]).panels.count)
    monkeypatch.setattr(WinogradFilterGradient, "cut", lambda self, threads: (parts, cut[1]))
    for one, many in zip(wanted, filter_gradients(case)[:2], strict=True):
        np.testing.assert_array_equal(one, many)


def test_packed_filters_are_read_by_any_cut(monkeypatch):
    geometry, x, w, bias, dy = make("many_channels")
    product = WinogradProduct(geometry, False)
    packed = np.empty(product.packed_size, np.float32)
    product.pack(w, packed)
    results = []
    for threads in (1, 8, 64):
        monkeypatch.setattr(numba, "get_num_threads", lambda threads=threads: threads)
        results.append(np.full_like(dy, np.nan))
        product.run_packed(x, packed, bias, results[-1])
        np.testing.assert_array_equal(results[0], results[-1])


def test_many_threads_share_the_work_of_one_image():
    geometry = ConvPlan((1, 512, 14, 14), (512, 512, 3, 3), pad=1).geometry
    work = WinogradProduct(geometry, False).work
    one, two, many = (cut_for(work, threads, False) for threads in (1, 2, 64))
    assert one == two and one.depth_parts == 1 and one.strips * one.parts < 64
    assert many.strips * many.parts * many.depth_parts >= 64
    parts, point_parts = WinogradFilterGradient(geometry).cut(64)
    assert 16 * parts * point_parts >= 64


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinity_surface_in_all_tiles_that_see_them_and_no_others(value):
    geometry, x, w, bias, dy = make("square")
    x[0, 3, 5, 6] = value
    y = np.empty_like(dy)
    WinogradProduct(geometry, False).run(x, w, bias, y)
    unknown = ~np.isfinite(y)
    assert unknown[0, :, 4:7, 5:8].all()
    assert not unknown[0, :, 8:].any()
    assert not unknown[1].any()
    dw = np.zeros_like(w)
    WinogradFilterGradient(geometry).run(x, dy, dw, None)
    unknown = ~np.isfinite(dw)
    assert unknown[:, 3].all()
    assert not np.delete(unknown, 3, axis=1).any()


def test_plans_use_it_where_it_is_faster():
    for size in (7, 14, 56):
        plan = ConvPlan((4, 64, size, size), (64, 64, 3, 3), pad=1)
        assert isinstance(plan._forward, WinogradProduct)
        assert isinstance(plan._backward_data, WinogradProduct)
        assert isinstance(plan._backward_weights, WinogradFilterGradient)
    assert not isinstance(ConvPlan((4, 3, 56, 56), (8, 3, 3, 3), pad=1)._forward, WinogradProduct)


@pytest.mark.parametrize(
    ("filter_size", "settings", "dtype"),
    [
        (5, {}, np.float32),
        (3, {"stride": 2}, np.float32),
        (3, {"dilation": 2}, np.float32),
        (3, {"pad": 3}, np.float32),
        (3, {}, np.float64),
    ],
)
def test_other_convolutions_stay_plain(filter_size, settings, dtype):
    plan = ConvPlan((2, 64, 20, 20), (64, 64, filter_size, filter_size), **settings, dtype=dtype)
    assert not is_winograd(plan.geometry)
    assert not isinstance(plan._forward, WinogradProduct)
    assert not isinstance(plan._backward_weights, WinogradFilterGradient)
