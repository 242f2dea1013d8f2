"""ConvPlan against the slow reference in float64."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from caffetools.engine.cpu.conv import ConvPlan
from caffetools.engine.cpu.conv_lanes import LanesProduct
from caffetools.engine.cpu.conv_weights import add_bias_gradient
from caffetools.glog import FatalError
from tests.engine import reference

TOLERANCE = {np.float32: 2e-5, np.float64: 1e-12}

# images, channels, outputs, filter, stride, pad, dilation, group, image
CASES = {
    "lenet_conv1": (3, 1, 20, (5, 5), (1, 1), (0, 0), (1, 1), 1, (28, 28)),
    "lenet_conv2": (9, 20, 50, (5, 5), (1, 1), (0, 0), (1, 1), 1, (12, 12)),
    "cifar_conv1": (2, 3, 32, (5, 5), (1, 1), (2, 2), (1, 1), 1, (32, 32)),
    "stride_4_filter_11": (2, 3, 7, (11, 11), (4, 4), (0, 0), (1, 1), 1, (67, 67)),
    "groups": (2, 8, 12, (3, 3), (1, 1), (1, 1), (1, 1), 4, (9, 9)),
    "depthwise": (2, 7, 7, (3, 3), (1, 1), (1, 1), (1, 1), 7, (14, 14)),
    "depthwise_stride_2": (2, 7, 7, (3, 3), (2, 2), (1, 1), (1, 1), 7, (15, 14)),
    "depthwise_wide_filter": (2, 5, 5, (7, 4), (2, 3), (3, 1), (1, 2), 5, (20, 31)),
    "depthwise_without_padding": (3, 4, 4, (2, 2), (3, 3), (0, 0), (1, 1), 4, (8, 9)),
    "depthwise_many_channels": (3, 21, 21, (3, 3), (2, 1), (1, 1), (1, 1), 21, (12, 13)),
    "depthwise_one_pixel": (2, 17, 17, (3, 3), (1, 1), (1, 1), (1, 1), 17, (1, 1)),
    "dilation": (2, 3, 5, (3, 3), (1, 1), (2, 2), (2, 2), 1, (11, 12)),
    "stride_and_dilation": (2, 8, 48, (3, 3), (2, 2), (1, 1), (2, 2), 1, (14, 14)),
    "dilation_multiple_of_stride": (1, 2, 3, (3, 2), (2, 2), (2, 0), (4, 2), 1, (15, 16)),
    "rows_and_columns_differ": (2, 3, 8, (3, 5), (2, 1), (1, 0), (1, 2), 1, (13, 17)),
    "one_pixel_planes": (1, 7, 7, (1, 1), (1, 1), (0, 0), (1, 1), 1, (1, 1)),
    "filter_as_large_as_image": (5, 6, 20, (6, 6), (1, 1), (0, 0), (1, 1), 1, (6, 6)),
    "small_planes": (5, 6, 7, (3, 3), (1, 1), (1, 1), (1, 1), 1, (7, 7)),
    "pointwise": (2, 64, 30, (1, 1), (1, 1), (0, 0), (1, 1), 1, (20, 20)),
    "pointwise_stride_2": (2, 6, 50, (1, 1), (2, 2), (0, 0), (1, 1), 1, (8, 8)),
    "pad_beyond_filter": (2, 4, 6, (2, 2), (1, 1), (3, 3), (1, 1), 1, (5, 5)),
    "stride_beyond_filter": (2, 4, 6, (2, 2), (3, 3), (0, 0), (1, 1), 1, (9, 8)),
    "stride_beyond_image": (2, 4, 6, (3, 3), (5, 5), (1, 1), (1, 1), 1, (3, 4)),
    "unused_last_rows": (2, 3, 4, (3, 3), (3, 3), (0, 0), (1, 1), 1, (11, 10)),
    "wide_image_many_taps": (1, 50, 3, (3, 3), (1, 1), (1, 1), (1, 1), 1, (6, 224)),
    "winograd": (2, 64, 48, (3, 3), (1, 1), (1, 1), (1, 1), 1, (13, 12)),
    "one_row": (2, 3, 4, (1, 3), (1, 1), (0, 1), (1, 1), 1, (1, 50)),
}
FLOAT64_CASES = ["lenet_conv1", "stride_and_dilation", "small_planes", "depthwise_stride_2", "depthwise"]


def make(case, dtype):
    n, c, m, kernel, stride, pad, dilation, group, size = CASES[case]
    rng = np.random.default_rng(7)
    x = rng.standard_normal((n, c, *size)).astype(dtype)
    w = rng.standard_normal((m, c // group, *kernel)).astype(dtype)
    bias = rng.standard_normal(m).astype(dtype)
    plan = ConvPlan(x.shape, w.shape, stride, pad, dilation, group, dtype)
    dy = rng.standard_normal(plan.y_shape).astype(dtype)
    return plan, x, w, bias, dy, (stride, pad, dilation, group)


def assert_close(actual, wanted):
    assert actual.shape == wanted.shape
    assert np.abs(actual - wanted).max() <= TOLERANCE[actual.dtype.type] * np.abs(wanted).max()


@pytest.mark.parametrize(
    ("case", "dtype"), [(c, np.float32) for c in CASES] + [(c, np.float64) for c in FLOAT64_CASES]
)
def test_against_reference(case, dtype):
    plan, x, w, bias, dy, geometry = make(case, dtype)
    y, dx = np.full(plan.y_shape, np.nan, dtype), np.full(x.shape, np.nan, dtype)
    dw, db = np.ones_like(w), np.full_like(bias, 2)

    plan.forward(x, w, bias, y)
    plan.backward_data(dy, w, dx)
    plan.backward_weights(x, dy, dw, db)

    assert_close(y, reference.conv_forward(x, w, bias, *geometry, plan.y_shape))
    assert_close(dx, reference.conv_backward_data(dy, w, *geometry, x.shape))
    wanted_dw, wanted_db = reference.conv_backward_weights(x, dy, w.shape, *geometry)
    assert_close(dw, wanted_dw + 1)
    assert_close(db, wanted_db + 2)


def run_all(plan, x, w, bias, dy):
    """Return y, dx, dw and db."""
    y, dx, dw, db = np.empty_like(dy), np.empty_like(x), np.zeros_like(w), np.zeros_like(bias)
    plan.forward(x, w, bias, y)
    plan.backward_data(dy, w, dx)
    plan.backward_weights(x, dy, dw, db)
    return y, dx, dw, db


LANES_CASES = [
    "lenet_conv2",
    "groups",
    "stride_and_dilation",
    "small_planes",
    "pointwise_stride_2",
    "stride_beyond_image",
]


@pytest.mark.parametrize("images", [1, 16, 33])
@pytest.mark.parametrize("case", LANES_CASES)
def test_images_as_lanes(case, images):
    _, c, m, kernel, stride, pad, dilation, group, size = CASES[case]
    rng = np.random.default_rng(7)
    x = rng.standard_normal((images, c, *size)).astype(np.float32)
    w = rng.standard_normal((m, c // group, *kernel)).astype(np.float32)
    plan = ConvPlan(x.shape, w.shape, stride, pad, dilation, group)
    dy = rng.standard_normal(plan.y_shape).astype(np.float32)
    bias = rng.standard_normal(m).astype(np.float32)
    y, dx = np.full(plan.y_shape, np.nan, np.float32), np.full(x.shape, np.nan, np.float32)
    LanesProduct(plan.geometry, transposed=False).run(x, w, bias, y)
    LanesProduct(plan.geometry, transposed=True).run(dy, w, None, dx)
    assert_close(y, reference.conv_forward(x, w, bias, stride, pad, dilation, group, plan.y_shape))
    assert_close(dx, reference.conv_backward_data(dy, w, stride, pad, dilation, group, x.shape))


def test_full_batches_of_small_planes_use_images_as_lanes():
    plan = ConvPlan((64, 20, 12, 12), (50, 20, 5, 5))
    assert isinstance(plan._backward_data, LanesProduct)
    assert not isinstance(ConvPlan((1, 20, 12, 12), (50, 20, 5, 5))._backward_data, LanesProduct)


def test_bias_is_optional():
    plan, x, w, bias, dy, geometry = make("rows_and_columns_differ", np.float32)
    y, dw = np.empty(plan.y_shape, np.float32), np.zeros_like(w)
    plan.forward(x, w, None, y)
    plan.backward_weights(x, dy, dw, None)
    assert_close(y, reference.conv_forward(x, w, 0 * bias, *geometry, plan.y_shape))
    assert_close(dw, reference.conv_backward_weights(x, dy, w.shape, *geometry)[0])


def test_gradient_of_the_bias_alone():
    _, _, _, bias, dy, _ = make("groups", np.float32)
    db = np.full_like(bias, 2)
    add_bias_gradient(dy, db)
    assert_close(db, dy.astype(np.float64).sum(axis=(0, 2, 3)) + 2)


def test_more_images_than_fit_one_group_of_padded_images(monkeypatch):
    monkeypatch.setattr("caffetools.engine.cpu.conv_products.GROUP_BYTES", 10_000)
    test_against_reference("small_planes", np.float32)
    test_against_reference("cifar_conv1", np.float32)
    test_against_reference("lenet_conv2", np.float32)
    test_against_reference("stride_beyond_filter", np.float32)


@pytest.mark.parametrize("case", [case for case in CASES if case.startswith("depthwise")])
def test_depthwise_strips_and_chunks(case, monkeypatch):
    monkeypatch.setattr("caffetools.engine.cpu.conv_depthwise.STRIP_BYTES", 10_000)
    monkeypatch.setattr("caffetools.engine.cpu.conv_depthwise.JOBS", 1)
    monkeypatch.setattr("caffetools.engine.cpu.conv_depthwise.MOST_CHUNKS", 1)
    test_against_reference(case, np.float32)


@pytest.mark.parametrize(
    "case",
    ["lenet_conv2", "cifar_conv1", "small_planes", "stride_and_dilation", "depthwise_many_channels", "winograd"],
)
def test_results_do_not_depend_on_the_number_of_threads(case):
    if numba.config.NUMBA_NUM_THREADS < 2:
        pytest.skip("one thread only")
    plan, x, w, bias, dy, _ = make(case, np.float32)
    results = []
    for threads in (1, 2):
        numba.set_num_threads(threads)
        y, dx, dw, db = (
            np.empty(plan.y_shape, np.float32),
            np.empty_like(x),
            np.zeros_like(w),
            np.zeros_like(bias),
        )
        plan.forward(x, w, bias, y)
        plan.backward_data(dy, w, dx)
        plan.backward_weights(x, dy, dw, db)
        results.append((y, dx, dw, db))
    numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)
    for one, two in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("case", ["cifar_conv1", "small_planes", "pointwise_stride_2", "depthwise_many_channels"])
def test_nan_reaches_exactly_the_outputs_that_see_it(case):
    plan, x, w, bias, dy, geometry = make(case, np.float32)
    x[-1, 0, 2, 2] = np.nan
    y = np.empty(plan.y_shape, np.float32)
    plan.forward(x, w, bias, y)
    np.testing.assert_array_equal(
        np.isnan(y), np.isnan(reference.conv_forward(x, w, bias, *geometry, plan.y_shape))
    )
    assert np.isnan(y).any()


def test_infinity_times_zero_is_nan():
    plan, x, w, bias, _, _ = make("lenet_conv1", np.float32)
    w[:], x[0, 0, 10, 10] = 0, np.inf
    y = np.empty(plan.y_shape, np.float32)
    plan.forward(x, w, bias, y)
    assert np.isnan(y[0]).sum() == 20 * 25
    assert np.isfinite(y[1:]).all()


@pytest.mark.parametrize(
    ("x_shape", "w_shape", "group", "message"),
    [
        ((1, 3, 5, 5), (4, 2, 3, 3), 1, "channels == group"),
        ((1, 4, 5, 5), (3, 2, 3, 3), 2, "num_output % group == 0"),
        ((1, 3, 2, 2), (4, 3, 3, 3), 1, "output height and width > 0"),
    ],
)
def test_impossible_shapes_are_refused(x_shape, w_shape, group, message):
    with pytest.raises(FatalError, match=message):
        ConvPlan(x_shape, w_shape, group=group)
