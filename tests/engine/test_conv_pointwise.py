"""1 x 1 convolutions as plain products against NumPy's in float64."""

from __future__ import annotations

import numpy as np
import pytest

from caffetools.engine.cpu.conv import ConvPlan
from caffetools.engine.cpu.conv_pointwise import PointwiseProduct, is_pointwise
from caffetools.engine.cpu.conv_pointwise_weights import PointwiseFilterGradient
from caffetools.engine.cpu.finish import Finish

# images, channels, outputs, group, image: planes in place and packed, tiles that are not full, one pixel, few channels.
CASES = {
    "in_place": (2, 24, 30, 1, (20, 21)),
    "packed": (2, 40, 260, 1, (9, 11)),
    "rows_on_the_same_lines": (1, 9, 70, 1, (64, 32)),
    "long_axis": (1, 1100, 17, 1, (5, 9)),
    "groups": (3, 12, 21, 3, (13, 7)),
    "one_pixel": (2, 7, 5, 1, (1, 1)),
    "one_channel": (4, 1, 1, 1, (6, 6)),
}


def make(case, dtype):
    images, channels, outputs, group, size = CASES[case]
    rng = np.random.default_rng(2)
    x, w, bias, dy = (
        rng.standard_normal(shape).astype(dtype)
        for shape in (
            (images, channels, *size), (outputs, channels // group, 1, 1), outputs, (images, outputs, *size),
        )
    )  # fmt: skip
    return ConvPlan(x.shape, w.shape, group=group, dtype=dtype).geometry, x, w, bias, dy


def grouped(x, group):
    """Return the planes as (image, group, channel, pixel), in float64."""
    return x.astype(np.float64).reshape(len(x), group, x.shape[1] // group, -1)


def product(x, w, group, transposed):
    """Return each group's planes times its filters, or the transposed ones, in float64."""
    filters = w.astype(np.float64).reshape(group, -1, w.shape[1])
    letters = "gmc,ngmp->ngcp" if transposed else "gmc,ngcp->ngmp"
    return np.einsum(letters, filters, grouped(x, group)).reshape(len(x), -1, *x.shape[2:])


def assert_close(actual, wanted):
    tolerance = 2e-5 if actual.dtype == np.float32 else 1e-12
    assert np.abs(actual - wanted).max() <= tolerance * np.abs(wanted).max()


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_forward(case, bias, dtype):
    geometry, x, w, b, dy = make(case, dtype)
    y = np.full_like(dy, np.nan)
    PointwiseProduct(geometry, transposed=False).run(x, w, b if bias else None, y)
    assert_close(y, product(x, w, geometry.group, False) + bias * b[:, None, None])


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_data_gradient(case, dtype):
    geometry, x, w, _, dy = make(case, dtype)
    dx = np.full_like(x, np.nan)
    PointwiseProduct(geometry, transposed=True).run(dy, w, None, dx)
    assert_close(dx, product(dy, w, geometry.group, True))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_filter_gradient(case, bias, dtype):
    geometry, x, w, b, dy = make(case, dtype)
    dw, db = np.ones_like(w), np.full_like(b, 2)
    PointwiseFilterGradient(geometry).run(x, dy, dw, db if bias else None)
    outer = np.einsum("ngmp,ngcp->gmc", *(grouped(v, geometry.group) for v in (dy, x)))
    assert_close(dw, outer.reshape(w.shape) + 1)
    assert_close(db, dy.astype(np.float64).sum(axis=(0, 2, 3)) * bias + 2)


@pytest.mark.parametrize("case", CASES)
def test_finished(case):
    geometry, x, w, b, dy = make(case, np.float32)
    rng = np.random.default_rng(3)
    scale, shift = rng.standard_normal((2, len(b))).astype(np.float32)
    y, residual = np.full_like(dy, np.nan), rng.standard_normal(dy.shape).astype(np.float32)
    PointwiseProduct(geometry, transposed=False).run(x, w, b, y, Finish(scale, shift, residual, 0.25))
    wanted = product(x, w, geometry.group, False) + b[:, None, None]
    wanted = wanted * scale[:, None, None] + shift[:, None, None] + residual
    assert_close(y, np.where(wanted < 0, 0.25 * wanted, wanted))


def test_nan_goes_through():
    geometry, x, w, b, dy = make("in_place", np.float32)
    x[1, 3, 4, 5] = np.nan
    y = np.zeros_like(dy)
    PointwiseProduct(geometry, transposed=False).run(x, w, b, y)
    seen = np.zeros_like(y, bool)
    seen[1, :, 4, 5] = True
    assert (np.isnan(y) == seen).all()


@pytest.mark.parametrize(
    ("kernel", "stride", "pad", "wanted"),
    [((1, 1), 1, 0, True), ((1, 1), 2, 0, False), ((1, 1), 1, (0, 1), False), ((1, 2), 1, 0, False)],
)
def test_which_convolutions_are_plain_products(kernel, stride, pad, wanted):
    assert is_pointwise(ConvPlan((1, 2, 8, 8), (3, 2, *kernel), stride, pad).geometry) is wanted


def test_planes_of_many_pixels_and_few_channels_go_this_way():
    plan = ConvPlan((16, 32, 112, 112), (64, 32, 1, 1))
    assert isinstance(plan._forward, PointwiseProduct) and isinstance(plan._backward_data, PointwiseProduct)
    assert isinstance(plan._backward_weights, PointwiseFilterGradient)
