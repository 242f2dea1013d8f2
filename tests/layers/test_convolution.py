"""Convolution and Deconvolution against sums over taps in NumPy and against numeric gradients."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from caffetools.glog import FatalError
from tests.layers.gradient import SingleLayer, check_gradient, uniform

FILLERS = 'weight_filler { type: "gaussian" } bias_filler { type: "gaussian" }'


def text_of(kind, settings):
    return f'type: "{kind}" convolution_param {{ {settings} {FILLERS} }}'


def convolve(x, w, b, stride, pad, dilation, group):
    """The definition, for any number of spatial axes: one sum over channels for each tap of the kernel."""
    axes = x.ndim - 2
    x = np.pad(x, [(0, 0), (0, 0)] + [(p, p) for p in pad])
    kernel = w.shape[2:]
    sizes = [
        (size - (d * (k - 1) + 1)) // s + 1
        for size, k, s, d in zip(x.shape[2:], kernel, stride, dilation, strict=True)
    ]
    groups = np.split(x, group, axis=1), np.split(w, group)
    parts = []
    for part, filters in zip(*groups, strict=True):
        y = np.zeros((x.shape[0], filters.shape[0], *sizes))
        for tap in product(*map(range, kernel)):
            window = tuple(
                slice(a * d, a * d + (n - 1) * s + 1, s)
                for a, d, n, s in zip(tap, dilation, sizes, stride, strict=True)
            )
            y += np.einsum("nc...,mc->nm...", part[(..., *window)], filters[(..., *tap)])
        parts.append(y)
    y = np.concatenate(parts, axis=1)
    return y if b is None else y + b.reshape(-1, *(1,) * axes)


# settings, shape of the bottom, then stride, pad, dilation, group as they should be read
CASES = [
    ("num_output: 3 kernel_size: 3", (2, 4, 7, 6), (1, 1), (0, 0), (1, 1), 1),
    ("num_output: 3 kernel_size: 3 bias_term: false", (1, 4, 7, 6), (1, 1), (0, 0), (1, 1), 1),
    ("num_output: 5 kernel_size: 3 stride: 2 pad: 1", (2, 3, 9, 8), (2, 2), (1, 1), (1, 1), 1),
    (
        "num_output: 3 kernel_size: 2 kernel_size: 3 stride: 2 stride: 1",
        (2, 2, 5, 6),
        (2, 1),
        (0, 0),
        (1, 1),
        1,
    ),
    ("num_output: 2 kernel_h: 1 kernel_w: 5 pad_w: 2", (2, 3, 4, 5), (1, 1), (0, 2), (1, 1), 1),
    ("num_output: 4 kernel_size: 3 stride_h: 1 stride_w: 3", (1, 2, 5, 9), (1, 3), (0, 0), (1, 1), 1),
    ("num_output: 4 kernel_size: 3 dilation: 2 pad: 2", (2, 3, 7, 5), (1, 1), (2, 2), (2, 2), 1),
    ("num_output: 2 kernel_size: 2 dilation: 3 dilation: 1", (1, 2, 6, 4), (1, 1), (0, 0), (3, 1), 1),
    ("num_output: 6 kernel_size: 3 group: 3 pad: 1", (2, 6, 5, 4), (1, 1), (1, 1), (1, 1), 3),
    ("num_output: 4 kernel_size: 3 group: 4 pad: 1", (2, 4, 5, 5), (1, 1), (1, 1), (1, 1), 4),
    ("num_output: 8 kernel_size: 3 group: 4 stride: 2", (1, 4, 5, 5), (2, 2), (0, 0), (1, 1), 4),
    ("num_output: 7 kernel_size: 1", (3, 5, 1, 1), (1, 1), (0, 0), (1, 1), 1),
    ("num_output: 33 kernel_size: 1", (1, 17, 3, 1), (1, 1), (0, 0), (1, 1), 1),
    ("num_output: 3 kernel_size: 5 pad: 4", (1, 2, 1, 1), (1, 1), (4, 4), (1, 1), 1),
    ("num_output: 2 kernel_size: 4 stride: 5 pad: 1", (1, 2, 8, 8), (5, 5), (1, 1), (1, 1), 1),
    ("num_output: 3 kernel_size: 3 force_nd_im2col: true", (1, 2, 4, 4), (1, 1), (0, 0), (1, 1), 1),
    ("num_output: 3 kernel_size: 3 stride: 2 pad: 1", (2, 3, 10), (2,), (1,), (1,), 1),
    ("num_output: 4 kernel_size: 2 group: 2", (2, 2, 3, 4, 5), (1, 1, 1), (0, 0, 0), (1, 1, 1), 2),
    ("num_output: 3 kernel_size: 3 stride: 2 pad: 1", (1, 2, 5, 4, 6), (2, 2, 2), (1, 1, 1), (1, 1, 1), 1),
    ("num_output: 2 kernel_size: 2 dilation: 2 pad: 1", (1, 2, 3, 4, 3), (1,) * 3, (1,) * 3, (2,) * 3, 1),
    ("num_output: 2 kernel_size: 2", (1, 2, 2, 3, 2, 3), (1,) * 4, (0,) * 4, (1,) * 4, 1),
]
IDS = [f"{settings} on {shape}" for settings, shape, *_ in CASES]


@pytest.mark.parametrize(("settings", "shape", "stride", "pad", "dilation", "group"), CASES, ids=IDS)
def test_forward_is_the_sum_over_taps(settings, shape, stride, pad, dilation, group):
    x = uniform(*shape)
    rig = SingleLayer(text_of("Convolution", settings), x, dtype=np.float64)
    w, *b = (blob.data for blob in rig.layer.blobs)
    expected = convolve(x, w, b[0] if b else None, stride, pad, dilation, group)
    (y,) = rig.forward()
    assert y.shape == expected.shape
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("settings", "shape", "stride", "pad", "dilation", "group"), CASES, ids=IDS)
def test_deconvolution_is_the_transpose(settings, shape, stride, pad, dilation, group):
    """<conv x, y> = <x, deconv y> with the filters of the convolution, so deconv is the transposed matrix."""
    x = uniform(*shape)
    forward = SingleLayer(text_of("Convolution", settings), x, dtype=np.float64).forward()[0]
    y = uniform(*forward.shape, seed=9)
    outputs = shape[1]
    text = text_of("Deconvolution", settings.replace(settings.split()[1], str(outputs), 1))
    rig = SingleLayer(text, y, dtype=np.float64)
    w, *b = (blob.data for blob in rig.layer.blobs)
    assert w.shape[:2] == (y.shape[1], outputs // group)
    (enlarged,) = rig.forward()
    bias = b[0].reshape(-1, *(1,) * (y.ndim - 2)) if b else 0
    inside = tuple(slice(size) for size in enlarged.shape)  # windows may leave a last row of x untouched
    image = np.zeros([max(sizes) for sizes in zip(shape, enlarged.shape, strict=True)])
    image[tuple(slice(size) for size in shape)] = x
    projected = (convolve(image[inside], w, None, stride, pad, dilation, group) * y).sum()
    np.testing.assert_allclose(((enlarged - bias) * image[inside]).sum(), projected, rtol=1e-10)


# A transposed convolution of one pixel with so much padding has no output.
GRADIENTS = [(kind, *case[:2]) for case in CASES for kind in ("Convolution", "Deconvolution")]
GRADIENTS.remove(("Deconvolution", "num_output: 3 kernel_size: 5 pad: 4", (1, 2, 1, 1)))


@pytest.mark.parametrize(("kind", "settings", "shape"), GRADIENTS)
def test_gradient(kind, settings, shape):
    check_gradient(text_of(kind, settings), uniform(*shape), samples=25)


@pytest.mark.parametrize("kind", ["Convolution", "Deconvolution"])
def test_axis_moves_the_channels(kind):
    x = uniform(2, 3, 4, 5, 6)
    rig = SingleLayer(text_of(kind, "num_output: 3 kernel_size: 2 axis: 2"), x)
    flat = SingleLayer(text_of(kind, "num_output: 3 kernel_size: 2"), x.reshape(6, 4, 5, 6))
    np.testing.assert_array_equal(rig.forward()[0].reshape(6, 3, *flat.top[0].shape[2:]), flat.forward()[0])
    check_gradient(text_of(kind, "num_output: 3 kernel_size: 2 axis: -3"), x, samples=25)


def test_without_spatial_axes_it_is_an_inner_product():
    x = uniform(4, 3)
    rig = SingleLayer(text_of("Convolution", "num_output: 5 kernel_size: 1"), x[:, :, None], dtype=np.float64)
    w, b = (blob.data for blob in rig.layer.blobs)
    np.testing.assert_allclose(rig.forward()[0][:, :, 0], x @ w[:, :, 0].T + b, rtol=1e-12)


@pytest.mark.parametrize("kind", ["Convolution", "Deconvolution"])
def test_bottoms_share_the_weights(kind):
    x, other = uniform(2, 3, 5, 4), uniform(2, 3, 5, 4, seed=8)
    text = text_of(kind, "num_output: 4 kernel_size: 3 stride: 2")
    both = SingleLayer(text, x, other, tops=2)
    for values, top in zip((x, other), both.forward(), strict=True):
        np.testing.assert_array_equal(SingleLayer(text, values).forward()[0], top)
    check_gradient(text, x, other, tops=2, samples=25)


@pytest.mark.parametrize("kind", ["Convolution", "Deconvolution"])
@pytest.mark.parametrize("wanted", [(True, False), (False, True), (False, False)])
def test_frozen_parameters_get_no_gradient(kind, wanted):
    rig = SingleLayer(text_of(kind, "num_output: 4 kernel_size: 3"), uniform(2, 3, 5, 4))
    (y,) = rig.forward()
    rig.backward(y)
    full = [blob.diff.copy() for blob in rig.layer.blobs]
    for blob in rig.layer.blobs:
        blob.diff.fill(0)
    rig.layer.param_propagate_down = list(wanted)
    rig.backward(y)
    for blob, diff, is_wanted in zip(rig.layer.blobs, full, wanted, strict=True):
        np.testing.assert_allclose(blob.diff, diff if is_wanted else 0, rtol=1e-6)


@pytest.mark.parametrize("kind", ["Convolution", "Deconvolution"])
def test_other_sizes_and_batches_later(kind):
    text = text_of(kind, "num_output: 4 kernel_size: 3 stride: 2 pad: 1")
    rig = SingleLayer(text, uniform(2, 3, 5, 4))
    for shape in [(3, 3, 9, 7), (1, 3, 5, 4)]:
        x = uniform(*shape)
        rig.reshape(x)
        fresh = SingleLayer(text, x)
        for blob, mine in zip(fresh.layer.blobs, rig.layer.blobs, strict=True):
            blob.data[...] = mine.data
        np.testing.assert_array_equal(rig.forward()[0], fresh.forward()[0])


def test_bilinear_filler_enlarges_linearly():
    """Long et al. 2015: factor 2, kernel 4, stride 2, pad 1, one filter for each channel."""
    ramp = np.arange(6.0) * np.ones((1, 2, 5, 1))
    text = (
        'type: "Deconvolution" convolution_param { num_output: 2 group: 2 kernel_size: 4 stride: 2 pad: 1 '
        'bias_term: false weight_filler { type: "bilinear" } }'
    )
    (y,) = SingleLayer(text, ramp).forward()
    assert y.shape == (1, 2, 10, 12)
    np.testing.assert_allclose(y[0, 1, 4, 1:-1], np.arange(10) / 2 + 0.25, atol=1e-6)


BASE = "num_output: 3 kernel_size: 3"
ERRORS = [
    (
        "num_output: 3",
        "kernel_size must be specified once, or once per spatial dimension (kernel_size specified 0",
    ),
    ("num_output: 3 kernel_size: [1, 2, 3]", "(kernel_size specified 3 times; 2 spatial dims)"),
    ("num_output: 3 kernel_size: 0", "Filter dimensions must be nonzero."),
    (
        "num_output: 3 kernel_size: 3 kernel_h: 2 kernel_w: 2",
        "Either kernel_size or kernel_h/w should be specified",
    ),
    ("num_output: 3 kernel_h: 2", "Filter dimensions must be nonzero. Give kernel_h and kernel_w: kernel_w is missing"),
    (f"{BASE} stride_w: 2", "Stride dimensions must be nonzero. Give stride_h and stride_w: stride_h is missing"),
    (f"{BASE} stride: 0", "Stride dimensions must be nonzero."),
    (f"{BASE} dilation: 0", "Dilation dimensions must be nonzero."),
    (f"{BASE} stride: [1, 1, 1]", "stride must be specified once"),
    (f"{BASE} pad: 1 pad_h: 1", "Either pad or pad_h/w should be specified; not both."),
    (f"{BASE} group: 3", "channels_ % group_ == 0"),
    ("num_output: 3 kernel_size: 3 group: 2", "Number of output should be multiples of group."),
    ("kernel_size: 3", "num_output_ > 0"),
    (
        "num_output: 3 kernel_size: 9",
        "A kernel that spans 9 does not fit into 5 + 2 * 0 elements of spatial axis 0",
    ),
]


@pytest.mark.parametrize(("settings", "words"), ERRORS)
def test_refuses(settings, words):
    with pytest.raises(FatalError) as error:
        SingleLayer(text_of("Convolution", settings), uniform(2, 4, 5, 5))
    assert words in str(error.value)
    assert "layer 'under_test'" in str(error.value)


def test_refuses_pairs_without_two_spatial_axes():
    with pytest.raises(FatalError, match="kernel_h & kernel_w can only be used for 2D convolution"):
        SingleLayer(text_of("Convolution", "num_output: 3 kernel_h: 3 kernel_w: 3"), uniform(2, 4, 5))


def test_refuses_bottoms_of_other_shapes():
    rig = SingleLayer(text_of("Convolution", BASE), uniform(2, 4, 5, 5), uniform(2, 4, 5, 5), tops=2)
    with pytest.raises(
        FatalError, match=r"shape mismatch - bottom\[0\]: 2 4 5 5 \(200\) vs. bottom\[1\]: 2 4 5 6"
    ):
        rig.reshape(uniform(2, 4, 5, 5), uniform(2, 4, 5, 6))
    with pytest.raises(FatalError, match="Input size incompatible with convolution kernel"):
        rig.reshape(uniform(2, 3, 5, 5), uniform(2, 3, 5, 5))
    with pytest.raises(FatalError, match="bottom num_axes may not change"):
        rig.reshape(uniform(2, 4, 5), uniform(2, 4, 5))


def test_deconvolution_refuses_to_pad_everything_away():
    with pytest.raises(FatalError, match="the padding leaves nothing"):
        SingleLayer(text_of("Deconvolution", f"{BASE} pad: 4"), uniform(1, 2, 1, 1))
