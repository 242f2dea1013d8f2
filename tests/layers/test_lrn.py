"""LRN against its formula in NumPy and numeric gradients."""

from __future__ import annotations

import numpy as np
import pytest

from caffetools.glog import FatalError
from tests.layers.gradient import SingleLayer, check_gradient, uniform

WITHIN = "norm_region: WITHIN_CHANNEL"
# settings, then size, alpha, beta, k
CASES = [
    ("", 5, 1, 0.75, 1),
    ("local_size: 3 alpha: 0.5 k: 2", 3, 0.5, 0.75, 2),
    ("local_size: 1 alpha: 2", 1, 2, 0.75, 1),
    ("local_size: 5 beta: 0.5", 5, 1, 0.5, 1),
    ("local_size: 3 beta: 1.3 k: 0.5", 3, 1, 1.3, 0.5),
    ("local_size: 15 alpha: 3", 15, 3, 0.75, 1),
]
SHAPES = [(2, 6, 5, 4), (1, 1, 1, 1), (3, 17, 1, 2), (1, 4, 13, 11)]


def text_of(settings):
    return f'type: "LRN" lrn_param {{ {settings} }}'


def without_k(settings):
    """WITHIN_CHANNEL has none."""
    return settings.partition("k:")[0]


def across(x, size, alpha, beta, k):
    reach = size // 2
    squares = np.pad(x**2, [(0, 0), (reach, reach), (0, 0), (0, 0)])
    energy = sum(squares[:, i : i + x.shape[1]] for i in range(size))
    return x * (k + alpha / size * energy) ** -beta


def within(x, size, alpha, beta):
    reach = size // 2
    squares = np.pad(x**2, [(0, 0), (0, 0), (reach, reach), (reach, reach)])
    height, width = x.shape[2:]
    energy = sum(squares[:, :, i : i + height, j : j + width] for i in range(size) for j in range(size))
    return x * (1 + alpha / size**2 * energy) ** -beta


@pytest.mark.parametrize(("settings", "size", "alpha", "beta", "k"), CASES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_forward(settings, size, alpha, beta, k, shape):
    x = uniform(*shape, low=-3, high=3)
    (y,) = SingleLayer(text_of(settings), x).forward()
    np.testing.assert_allclose(y, across(x, size, alpha, beta, k), rtol=1e-5)
    (y,) = SingleLayer(text_of(f"{without_k(settings)} {WITHIN}"), x).forward()
    np.testing.assert_allclose(y, within(x, size, alpha, beta), rtol=1e-5)


@pytest.mark.parametrize("settings", [case[0] for case in CASES])
@pytest.mark.parametrize("region", ["", WITHIN])
@pytest.mark.parametrize("shape", SHAPES[:3], ids=str)
def test_gradient(settings, region, shape):
    settings = without_k(settings) if region else settings
    check_gradient(text_of(f"{settings} {region}"), uniform(*shape, low=-3, high=3), samples=60)


def test_large_values_beside_small_ones():
    """Sums that only add and drop values at their ends would leave the rounding of the large one behind."""
    x = np.full((1, 12, 1, 1), 1e-2)
    x[0, 3] = 1e4
    (y,) = SingleLayer(text_of(""), x).forward()
    np.testing.assert_allclose(y, across(x, 5, 1, 0.75, 1), rtol=1e-5)


def test_more_pixels_than_a_block():
    x = uniform(2, 7, 19, 23)
    rig = SingleLayer(text_of(""), x)
    np.testing.assert_allclose(rig.forward()[0], across(x, 5, 1, 0.75, 1), rtol=1e-5)
    rig.reshape(x[:1, :, :3, :5])
    np.testing.assert_allclose(rig.forward()[0], across(x[:1, :, :3, :5], 5, 1, 0.75, 1), rtol=1e-5)


def test_refuses():
    with pytest.raises(FatalError, match="LRN only supports odd values for local_size"):
        SingleLayer(text_of("local_size: 4"), uniform(1, 2, 3, 3))
    with pytest.raises(FatalError, match="k would have no effect: with WITHIN_CHANNEL it is 1"):
        SingleLayer(text_of(f"k: 2 {WITHIN}"), uniform(1, 2, 3, 3))
    with pytest.raises(FatalError, match="Input must have 4 axes"):
        SingleLayer(text_of(""), uniform(1, 2, 3))
    with pytest.raises(FatalError, match="in-place"):
        SingleLayer(text_of(""), uniform(1, 2, 3, 3), in_place=True)
