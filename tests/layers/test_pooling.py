"""Pooling against windows in NumPy and numeric gradients; for STOCHASTIC, what is drawn and how often."""

from __future__ import annotations

from math import ceil, floor

import numpy as np
import pytest

from caffetools.glog import FatalError
from caffetools.layer import TEST
from tests.layers.gradient import SingleLayer, check_gradient, distinct, uniform

LOWEST = -np.finfo(np.float32).max


def text_of(settings):
    return f'type: "Pooling" pooling_param {{ {settings} }}'


def windows(shape, kernel, stride, pad, rounded):
    """Yield (row, column, rows and columns of the window, its size within the padded plane)."""
    counts = []
    for size, k, s, p in zip(shape, kernel, stride, pad, strict=True):
        count = rounded((size + 2 * p - k) / s) + 1
        counts.append(count - 1 if any(pad) and (count - 1) * s >= size + p else count)
    for i in range(counts[0]):
        for j in range(counts[1]):
            top, left = i * stride[0] - pad[0], j * stride[1] - pad[1]
            bottom, right = min(top + kernel[0], shape[0] + pad[0]), min(left + kernel[1], shape[1] + pad[1])
            inside = slice(max(top, 0), min(bottom, shape[0])), slice(max(left, 0), min(right, shape[1]))
            yield i, j, inside, (bottom - top) * (right - left)


def pool(x, method, *geometry):
    """The definition, window by window: values and, for MAX, the index of the first maximum in the plane."""
    places = list(windows(x.shape[2:], *geometry))
    shape = (*x.shape[:2], places[-1][0] + 1, places[-1][1] + 1)
    y, index = np.zeros(shape), np.zeros(shape, int)
    for i, j, inside, size in places:
        part = x[(..., *inside)]
        if method == "AVE":
            y[..., i, j] = part.sum(axis=(2, 3)) / size
        else:
            flat = part.reshape(*part.shape[:2], -1)
            rows, columns = np.divmod(flat.argmax(axis=-1), part.shape[3])
            y[..., i, j] = flat.max(axis=-1)
            index[..., i, j] = (rows + inside[0].start) * x.shape[3] + columns + inside[1].start
    return y, index


# settings, plane, kernel, stride, pad, rounding
CASES = [
    ("kernel_size: 2 stride: 2", (6, 8), (2, 2), (2, 2), (0, 0), ceil),
    ("kernel_size: 2 stride: 2", (7, 5), (2, 2), (2, 2), (0, 0), ceil),
    ("kernel_size: 2 stride: 2 round_mode: FLOOR", (7, 5), (2, 2), (2, 2), (0, 0), floor),
    ("kernel_size: 2 stride: 2", (24, 37), (2, 2), (2, 2), (0, 0), ceil),
    ("kernel_size: 3 stride: 2", (9, 8), (3, 3), (2, 2), (0, 0), ceil),
    ("kernel_size: 3 stride: 2", (28, 33), (3, 3), (2, 2), (0, 0), ceil),
    ("kernel_size: 3 stride: 2 pad: 1", (9, 8), (3, 3), (2, 2), (1, 1), ceil),
    ("kernel_size: 3 stride: 2 pad: 1 round_mode: FLOOR", (9, 8), (3, 3), (2, 2), (1, 1), floor),
    ("kernel_size: 3 pad: 1", (5, 4), (3, 3), (1, 1), (1, 1), ceil),
    ("kernel_size: 2 stride: 2 pad_h: 1 pad_w: 0", (4, 5), (2, 2), (2, 2), (1, 0), ceil),
    (
        "kernel_h: 3 kernel_w: 2 stride_h: 2 stride_w: 1 pad_h: 1 pad_w: 1",
        (9, 8),
        (3, 2),
        (2, 1),
        (1, 1),
        ceil,
    ),
    ("kernel_h: 1 kernel_w: 7", (3, 9), (1, 7), (1, 1), (0, 0), ceil),
    ("kernel_size: 5 stride: 3 pad: 2", (70, 90), (5, 5), (3, 3), (2, 2), ceil),
    ("kernel_size: 1", (3, 3), (1, 1), (1, 1), (0, 0), ceil),
    ("kernel_size: 1 stride: 2", (5, 5), (1, 1), (2, 2), (0, 0), ceil),
    ("kernel_h: 1 kernel_w: 2", (1, 2), (1, 2), (1, 1), (0, 0), ceil),
    ("kernel_size: 3 stride: 2", (2, 2), (3, 3), (2, 2), (0, 0), ceil),
    ("global_pooling: true", (5, 3), (5, 3), (1, 1), (0, 0), ceil),
    ("global_pooling: true", (1, 1), (1, 1), (1, 1), (0, 0), ceil),
]
IDS = [f"{settings} on {plane}" for settings, plane, *_ in CASES]
each_case = pytest.mark.parametrize(
    ("settings", "plane", "kernel", "stride", "pad", "rounded"), CASES, ids=IDS
)


@each_case
@pytest.mark.parametrize("planes", [(2, 3), (1, 1)])
def test_max(settings, plane, kernel, stride, pad, rounded, planes):
    # Few different values: the index must be that of the first of equals.
    x = np.random.default_rng(1).integers(0, 5, (*planes, *plane)).astype(np.float32)
    values, index = SingleLayer(text_of(settings), x, tops=2).forward()
    expected, where = pool(x, "MAX", kernel, stride, pad, rounded)
    np.testing.assert_array_equal(values, expected)
    np.testing.assert_array_equal(index, where)


@each_case
@pytest.mark.parametrize("planes", [(2, 3), (1, 1)])
def test_average(settings, plane, kernel, stride, pad, rounded, planes):
    x = uniform(*planes, *plane)
    (y,) = SingleLayer(text_of(f"pool: AVE {settings}"), x).forward()
    np.testing.assert_allclose(y, pool(x, "AVE", kernel, stride, pad, rounded)[0], rtol=1e-5, atol=1e-6)


@each_case
@pytest.mark.parametrize("method", ["MAX", "AVE"])
def test_gradient(method, settings, plane, kernel, stride, pad, rounded):
    check_gradient(text_of(f"pool: {method} {settings}"), distinct(2, 2, *plane), samples=40)


@pytest.mark.parametrize("settings", ["kernel_size: 2 stride: 2", "kernel_size: 3 stride: 2"])
def test_gradients_of_overlapping_windows_add_up(settings):
    x = np.zeros((1, 1, 6, 6))
    x[0, 0, 2, 2] = 1
    rig = SingleLayer(text_of(settings), x)
    (y,) = rig.forward()
    (dx,) = rig.backward(np.ones_like(y))
    assert dx[0, 0, 2, 2] == y.sum()
    assert dx.sum() == y.size


@pytest.mark.parametrize("settings", ["kernel_size: 2 stride: 2", "kernel_size: 3 stride: 2 pad: 1"])
def test_nan_stays_visible(settings):
    x = uniform(1, 1, 8, 8)
    x[0, 0, 3, 3] = np.nan
    for method in ("MAX", "AVE"):
        (y,) = SingleLayer(text_of(f"pool: {method} {settings}"), x).forward()
        (clean,) = SingleLayer(text_of(f"pool: {method} {settings}"), np.nan_to_num(x)).forward()
        assert 0 < np.isnan(y).sum() < y.size
        np.testing.assert_array_equal(y[~np.isnan(y)], clean[~np.isnan(y)])


def test_a_window_without_elements_gives_the_start_value_and_takes_no_gradient():
    """A stride beyond the kernel, rounded up: the original starts its maximum from -FLT_MAX."""
    rig = SingleLayer(text_of("kernel_size: 1 stride: 3"), uniform(1, 1, 5, 5), tops=2)
    values, index = rig.forward()
    assert values[0, 0, 2, 2] == LOWEST
    assert index[0, 0, 2, 2] == -1
    (dx,) = rig.backward(np.ones_like(values), np.zeros_like(values))
    assert dx.sum() == 4


def test_other_sizes_later():
    rig = SingleLayer(text_of("kernel_size: 3 stride: 2"), uniform(1, 2, 9, 9))
    for shape in [(3, 2, 5, 12), (1, 1, 4, 4)]:
        x = uniform(*shape)
        rig.reshape(x)
        (y,) = rig.forward()
        np.testing.assert_array_equal(y, pool(np.float32(x), "MAX", (3, 3), (2, 2), (0, 0), ceil)[0])
    rig = SingleLayer(text_of("global_pooling: true"), uniform(1, 2, 9, 9))
    rig.reshape(uniform(2, 2, 4, 3))
    assert rig.forward()[0].shape == (2, 2, 1, 1)


STOCHASTIC = "pool: STOCHASTIC kernel_size: 2 stride: 2"


def test_stochastic_draws_in_proportion_to_the_values():
    x = np.tile(np.array([[1.0, 2], [5, 0]]), (64, 64)).reshape(1, 1, 128, 128)
    rig = SingleLayer(text_of(STOCHASTIC), x)
    drawn = np.concatenate([rig.forward()[0].ravel() for _ in range(4)])
    shares = [(drawn == value).mean() for value in (1, 2, 5, 0)]
    # Three standard deviations of a share of 1/2 among 16384 draws.
    np.testing.assert_allclose(shares, [1 / 8, 2 / 8, 5 / 8, 0], atol=3 * 0.5 / 128)


def test_stochastic_gradient_goes_to_what_was_drawn():
    x = distinct(2, 3, 6, 5) + 10
    check_gradient(text_of(STOCHASTIC), x, samples=60)


def test_stochastic_draws_anew_and_resumes():
    rig = SingleLayer(text_of(STOCHASTIC), distinct(1, 4, 16, 16) + 30)
    first = rig.forward()[0]
    state = rig.layer.get_state()
    second = rig.forward()[0]
    assert (first != second).any()
    rig.layer.set_state(state)
    np.testing.assert_array_equal(rig.forward()[0], second)


def test_stochastic_test_phase_is_the_expectation():
    x = np.abs(uniform(2, 3, 7, 6))
    rig = SingleLayer(text_of("pool: STOCHASTIC kernel_size: 3 stride: 2"), x, phase=TEST)
    (y,) = rig.forward()
    for i, j, inside, _ in windows((7, 6), (3, 3), (2, 2), (0, 0), ceil):
        part = x[(..., *inside)]
        np.testing.assert_allclose(
            y[..., i, j], (part**2).sum(axis=(2, 3)) / part.sum(axis=(2, 3)), rtol=1e-5
        )
    with pytest.raises(FatalError, match="TRAIN phase only"):
        rig.backward(y)


def test_stochastic_windows_of_zeros_give_zero():
    for phase in (0, TEST):
        (y,) = SingleLayer(text_of(STOCHASTIC), np.zeros((1, 1, 4, 4)), phase=phase).forward()
        assert not y.any()


ERRORS = [
    ("", "Filter size is kernel_size OR kernel_h and kernel_w; not both"),
    (
        "kernel_size: 2 kernel_h: 2 kernel_w: 2",
        "Filter size is kernel_size OR kernel_h and kernel_w; not both",
    ),
    ("kernel_h: 2", "For non-square filters both kernel_h and kernel_w are required."),
    ("kernel_size: 0", "Filter dimensions cannot be zero."),
    ("kernel_size: 2 stride: 0", "Stride dimensions cannot be zero."),
    (
        "kernel_size: 2 stride: 1 stride_h: 1 stride_w: 1",
        "Stride is stride OR stride_h and stride_w are required.",
    ),
    ("kernel_size: 2 pad_h: 1", "pad is pad OR pad_h and pad_w are required."),
    ("kernel_size: 2 pad: 2", "pad_h_ < kernel_h_ (2 vs. 2)"),
    ("global_pooling: true kernel_size: 2", "With Global_pooling: true Filter size cannot specified"),
    ("global_pooling: true pad: 1", "With Global_pooling: true; only pad = 0 and stride = 1"),
    (f"{STOCHASTIC} pad: 1", "Padding implemented only for average and max pooling."),
    ("kernel_size: 9", "A pooling window of 9 x 9 does not fit into a plane of 5 x 5"),
]


@pytest.mark.parametrize(("settings", "words"), ERRORS)
def test_refuses(settings, words):
    with pytest.raises(FatalError) as error:
        SingleLayer(text_of(settings), uniform(1, 1, 5, 5))
    assert words in str(error.value)
    assert "layer 'under_test'" in str(error.value)


def test_refuses_a_second_top_except_for_max():
    with pytest.raises(FatalError, match="Pooling Layer produces at most 1 top"):
        SingleLayer(text_of("pool: AVE kernel_size: 2"), uniform(1, 1, 5, 5), tops=2)


def test_refuses_other_numbers_of_axes():
    with pytest.raises(
        FatalError, match="Input must have 4 axes, corresponding to .num, channels, height, width."
    ):
        SingleLayer(text_of("kernel_size: 2"), uniform(1, 5, 5))
