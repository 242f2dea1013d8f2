"""Concat, Slice, Eltwise, Crop, Im2col and SPP against NumPy and numeric gradients."""

from __future__ import annotations

import numpy as np
import pytest

from caffetools.glog import FatalError
from tests.layers.gradient import SingleLayer, check_gradient, distinct, uniform


def concat_text(settings=""):
    return f'type: "Concat" concat_param {{ {settings} }}'


CONCATS = [
    ("", 1, [(2, 3, 5), (2, 1, 5), (2, 4, 5)]),
    ("axis: 0", 0, [(2, 3), (4, 3)]),
    ("axis: -1", 2, [(2, 3, 5), (2, 3, 2)]),
    ("concat_dim: 2", 2, [(1, 1, 1), (1, 1, 1)]),
    ("", 1, [(2, 3)]),
    ("axis: 0", 0, [(0, 3), (4, 3)]),
]
each_concat = pytest.mark.parametrize(("settings", "axis", "shapes"), CONCATS)


@each_concat
def test_concat_and_its_inverse(settings, axis, shapes):
    parts = [np.float32(uniform(*shape, seed=i)) for i, shape in enumerate(shapes)]
    (y,) = SingleLayer(concat_text(settings), *parts).forward()
    np.testing.assert_array_equal(y, np.concatenate(parts, axis))
    points = np.cumsum([shape[axis] for shape in shapes])[:-1].tolist()
    if 0 not in points:
        slicing = f'type: "Slice" slice_param {{ axis: {axis} slice_point: {points} }}'
        for part, top in zip(parts, SingleLayer(slicing, y, tops=len(parts)).forward(), strict=True):
            np.testing.assert_array_equal(top, part)


@each_concat
def test_concat_gradient(settings, axis, shapes):
    check_gradient(
        concat_text(settings), *(uniform(*shape, seed=i) for i, shape in enumerate(shapes)), samples=20
    )


def test_concat_leaves_unwanted_gradients_alone():
    rig = SingleLayer(concat_text(), uniform(2, 3), uniform(2, 4))
    first, second = rig.backward(rig.forward()[0], propagate_down=[False, True])
    assert np.isnan(first).all()
    np.testing.assert_array_equal(second, rig.bottom[1].data)


@pytest.mark.parametrize(
    ("settings", "shapes", "words"),
    [
        ("", [(2, 3, 4), (2, 3, 5)], "All inputs must have the same shape, except at concat_axis."),
        ("", [(2, 3), (2, 3, 1)], "All inputs must have the same #axes."),
        ("axis: 1 concat_dim: 1", [(2, 3)], "Either axis or concat_dim should be specified; not both."),
        ("axis: 2", [(2, 3)], "axis 2 out of range"),
        ("concat_dim: 2", [(2, 3)], "concat_dim out of range."),
    ],
)
def test_concat_refuses(settings, shapes, words):
    with pytest.raises(FatalError) as error:
        SingleLayer(concat_text(settings), *(uniform(*shape) for shape in shapes))
    assert words in str(error.value)


def slice_text(settings=""):
    return f'type: "Slice" slice_param {{ {settings} }}'


SLICES = [
    ("", 3, (2, 6, 5), 1, [2, 4]),
    ("slice_point: [1, 4]", 3, (2, 6, 5), 1, [1, 4]),
    ("axis: -1 slice_point: 2", 2, (3, 2, 5), 2, [2]),
    ("slice_dim: 0", 4, (4, 3), 0, [1, 2, 3]),
    ("", 1, (4, 3), 1, []),
]
each_slice = pytest.mark.parametrize(("settings", "tops", "shape", "axis", "points"), SLICES)


@each_slice
def test_slice(settings, tops, shape, axis, points):
    x = np.float32(uniform(*shape))
    parts = SingleLayer(slice_text(settings), x, tops=tops).forward()
    for part, expected in zip(parts, np.split(x, points, axis), strict=True):
        np.testing.assert_array_equal(part, expected)


@each_slice
def test_slice_gradient(settings, tops, shape, axis, points):
    check_gradient(slice_text(settings), uniform(*shape), tops=tops, samples=30)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("slice_point: 1", "slice_point_.size() == top.size() - 1 (1 vs. 2)"),
        ("slice_point: [2, 2]", "slice_point_[i] > prev (2 vs. 2)"),
        ("slice_point: [2, 7]", "slice_point_[i] > prev (7 vs. 7)"),
        ("axis: 0", "Number of top blobs (3) should evenly divide input slice axis (2)"),
        ("axis: 1 slice_dim: 1", "Either axis or slice_dim should be specified; not both."),
    ],
)
def test_slice_refuses(settings, words):
    with pytest.raises(FatalError) as error:
        SingleLayer(slice_text(settings), uniform(2, 7), tops=3)
    assert words in str(error.value)


def eltwise_text(settings=""):
    return f'type: "Eltwise" eltwise_param {{ {settings} }}'


def three(*shape):
    """Three arrays without equal or near values at any place, and none near zero."""
    return [distinct(*shape, seed=i) + 0.02 * i + 0.005 for i in range(3)]


ELTWISE = [
    ("", lambda a, b, c: a + b + c),
    ("operation: SUM coeff: [1, -0.5, 2]", lambda a, b, c: a - 0.5 * b + 2 * c),
    ("operation: PROD", lambda a, b, c: a * b * c),
    ("operation: PROD stable_prod_grad: false", lambda a, b, c: a * b * c),
    ("operation: MAX", lambda a, b, c: np.maximum(np.maximum(a, b), c)),
]
each_eltwise = pytest.mark.parametrize(("settings", "formula"), ELTWISE, ids=[s for s, _ in ELTWISE])


@each_eltwise
@pytest.mark.parametrize("shape", [(2, 3, 5), (1,), (2, 1, 1, 1)], ids=str)
def test_eltwise(settings, formula, shape):
    bottoms = three(*shape)
    (y,) = SingleLayer(eltwise_text(settings), *bottoms).forward()
    np.testing.assert_allclose(y, formula(*bottoms), rtol=1e-5, atol=1e-6)
    check_gradient(eltwise_text(settings), *bottoms, tolerance=1e-6)


@pytest.mark.parametrize("settings", ["operation: SUM coeff: [3, -0.5, 2]", "operation: MAX"])
def test_eltwise_in_place(settings):
    bottoms = three(2, 3, 4)
    (y,) = SingleLayer(eltwise_text(settings), *bottoms).forward()
    np.testing.assert_array_equal(
        SingleLayer(eltwise_text(settings), *bottoms, in_place=True).forward()[0], y
    )
    check_gradient(eltwise_text(settings), *bottoms, in_place=True)


def test_the_gradient_of_equal_maxima_goes_where_the_original_sends_it():
    rig = SingleLayer(eltwise_text("operation: MAX"), *np.ones((4, 3)))
    (y,) = rig.forward()
    assert [int(dx.sum()) for dx in rig.backward(y)] == [0, 3, 0, 0]


def test_stable_product_gradient_at_zero():
    zero, other = np.zeros(2), np.array([3.0, 4])
    for stable, expected in (("true", [3, 4]), ("false", [np.nan, np.nan])):
        rig = SingleLayer(eltwise_text(f"operation: PROD stable_prod_grad: {stable}"), zero, other)
        rig.forward()
        np.testing.assert_array_equal(rig.backward(np.ones(2))[0], expected)


@pytest.mark.parametrize("settings", [settings for settings, _ in ELTWISE])
@pytest.mark.filterwarnings("error")
def test_eltwise_of_infinities_is_silent(settings):
    rig = SingleLayer(eltwise_text(settings), [np.inf, 1e38], [-np.inf, 1e38], [0, 1e38])
    rig.forward()
    rig.backward([np.inf, 3e38])


def test_eltwise_maximum_of_nan_is_nan():
    nan = [np.nan, 0, 0, 1]
    for bottoms in (
        [nan, np.zeros(4), np.zeros(4)],
        [np.zeros(4), nan, np.zeros(4)],
        [np.zeros(4)] * 2 + [nan],
    ):
        (y,) = SingleLayer(eltwise_text("operation: MAX"), *bottoms).forward()
        np.testing.assert_array_equal(y, nan)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("coeff: 1", "Eltwise Layer takes one coefficient per bottom blob."),
        ("operation: PROD coeff: [1, 2]", "Eltwise layer only takes coefficients for summation."),
        ("operation: MAX coeff: [1, 2]", "Eltwise layer only takes coefficients for summation."),
    ],
)
def test_eltwise_refuses(settings, words):
    with pytest.raises(FatalError) as error:
        SingleLayer(eltwise_text(settings), uniform(2), uniform(2))
    assert words in str(error.value)


def test_eltwise_refuses_other_shapes_and_products_in_place():
    with pytest.raises(FatalError, match=r"bottom 0: 2 \(2\), bottom 1: 3 \(3\)"):
        SingleLayer(eltwise_text(), uniform(2), uniform(3))
    with pytest.raises(FatalError, match="in-place"):
        SingleLayer(eltwise_text("operation: PROD"), uniform(2), uniform(2), in_place=True)


def crop_text(settings=""):
    return f'type: "Crop" crop_param {{ {settings} }}'


CROPS = [
    ("offset: [1, 3]", (2, 3, 8, 9), (7, 7, 5, 4), np.s_[:, :, 1:6, 3:7]),
    ("axis: 1 offset: 2", (2, 5, 8, 9), (1, 2, 5, 4), np.s_[:, 2:4, 2:7, 2:6]),
    ("", (1, 2, 4, 4), (1, 2, 4, 1), np.s_[:, :, :, :1]),
    ("axis: -1 offset: 1", (3, 4), (1, 2), np.s_[:, 1:3]),
    ("axis: 0", (3, 4), (2, 2), np.s_[:2, :2]),
]


@pytest.mark.parametrize(("settings", "shape", "target", "cut"), CROPS)
def test_crop(settings, shape, target, cut):
    x, size = np.float32(uniform(*shape)), uniform(*target)
    rig = SingleLayer(crop_text(settings), x, size)
    (y,) = rig.forward()
    np.testing.assert_array_equal(y, x[cut])
    assert not rig.backward(y)[1].any()
    check_gradient(crop_text(settings), x, size, samples=30)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("offset: 3", "the crop for dimension 2 is out-of-bounds with size 3 and offset 3"),
        ("offset: [1, 1, 1]", "number of offset values specified must be equal to the number of dimensions"),
        ("axis: 4", "axis 4 out of range"),
    ],
)
def test_crop_refuses(settings, words):
    with pytest.raises(FatalError) as error:
        SingleLayer(crop_text(settings), uniform(1, 1, 5, 5), uniform(1, 1, 3, 3))
    assert words in str(error.value)


IM2COLS = [
    ("kernel_size: 3 stride: 2 pad: 1", (2, 3, 6, 5)),
    ("kernel_h: 1 kernel_w: 4 pad_w: 3", (1, 2, 3, 2)),
    ("kernel_size: 2 dilation: 2", (1, 2, 4, 3)),
    ("kernel_size: 3 pad: 1", (2, 2, 5)),
    ("kernel_size: 2 stride: 2 pad: 1", (1, 2, 3, 4, 3)),
    ("kernel_size: 2 axis: 2", (2, 2, 3, 4, 5)),
]


@pytest.mark.parametrize(("settings", "shape"), IM2COLS)
def test_im2col_times_filters_is_a_convolution(settings, shape):
    x = uniform(*shape)
    filler = 'num_output: 3 bias_term: false weight_filler { type: "gaussian" }'
    convolution = SingleLayer(f'type: "Convolution" convolution_param {{ {settings} {filler} }}', x)
    w = convolution.layer.blobs[0].data
    (columns,) = SingleLayer(f'type: "Im2col" convolution_param {{ {settings} }}', x).forward()
    axis = 2 if "axis" in settings else 1
    product = np.moveaxis(np.tensordot(w.reshape(3, -1), columns, (1, axis)), 0, axis)
    np.testing.assert_allclose(product, convolution.forward()[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("settings", "shape"), IM2COLS)
def test_im2col_gradient(settings, shape):
    check_gradient(f'type: "Im2col" convolution_param {{ {settings} }}', uniform(*shape), samples=40)


def spp_text(settings):
    return f'type: "SPP" spp_param {{ {settings} }}'


@pytest.mark.parametrize("method", ["MAX", "AVE"])
@pytest.mark.parametrize("size", [(8, 8), (9, 8), (7, 13)])
def test_spp_joins_pooled_planes(method, size):
    x = uniform(2, 3, *size)
    (y,) = SingleLayer(spp_text(f"pool: {method} pyramid_height: 3"), x).forward()
    parts = []
    for bins in (1, 2, 4):
        kernel = [-(-n // bins) for n in size]
        pad = [(k * bins - n + 1) // 2 for k, n in zip(kernel, size, strict=True)]
        pooling = (
            f"pool: {method} kernel_h: {kernel[0]} kernel_w: {kernel[1]} stride_h: {kernel[0]} "
            f"stride_w: {kernel[1]} pad_h: {pad[0]} pad_w: {pad[1]}"
        )
        (pooled,) = SingleLayer(f'type: "Pooling" pooling_param {{ {pooling} }}', x).forward()
        parts.append(pooled.reshape(2, -1))
    np.testing.assert_array_equal(y, np.concatenate(parts, axis=1))


def test_spp_gives_one_size_for_all_planes():
    rig = SingleLayer(spp_text("pyramid_height: 3"), uniform(2, 3, 9, 8))
    for shape in [(1, 3, 17, 20), (3, 3, 4, 4), (3, 3, 4, 4)]:
        rig.reshape(distinct(*shape))
        (y,) = rig.forward()
        assert y.shape == (shape[0], 3 * (1 + 4 + 16))
        np.testing.assert_array_equal(y[:, :3], np.float32(distinct(*shape)).max(axis=(2, 3)))


def test_spp_of_one_level_is_not_flattened():
    assert SingleLayer(spp_text("pyramid_height: 1"), uniform(2, 3, 5, 4)).forward()[0].shape == (2, 3, 1, 1)


@pytest.mark.parametrize("method", ["MAX", "AVE"])
@pytest.mark.parametrize("height", [1, 2, 3])
def test_spp_gradient(method, height):
    text = spp_text(f"pool: {method} pyramid_height: {height}")
    check_gradient(text, distinct(2, 2, 9, 8), samples=40)


def test_spp_draws_at_random_and_resumes():
    rig = SingleLayer(spp_text("pool: STOCHASTIC pyramid_height: 2"), distinct(1, 2, 8, 8) + 10)
    state = rig.layer.get_state()
    first, second = rig.forward()[0], rig.forward()[0]
    assert (first != second).any()
    rig.layer.set_state(state)
    np.testing.assert_array_equal(rig.forward()[0], first)


def test_spp_refuses():
    with pytest.raises(FatalError, match="pyramid_height_ > 0"):
        SingleLayer(spp_text(""), uniform(1, 1, 4, 4))
    with pytest.raises(FatalError, match="Input must have 4 axes"):
        SingleLayer(spp_text("pyramid_height: 2"), uniform(1, 4, 4))
    words = r"pad_w_ < kernel_w_ \(2 vs. 2\) pyramid_height 4 has a level of 4 x 4 bins, too many .* of 9 x 5"
    with pytest.raises(FatalError, match=words):
        SingleLayer(spp_text("pyramid_height: 4"), uniform(1, 1, 9, 5))
