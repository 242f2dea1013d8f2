from __future__ import annotations

import numpy as np
import pytest

from caffetools.glog import FatalError
from tests.layers.gradient import SingleLayer, check_gradient, uniform

# axis, tiles, shape of the bottom
CASES = [
    (1, 3, (2, 3, 4)),
    (0, 2, (3,)),
    (-1, 2, (2, 3)),
    (2, 5, (1, 2, 3, 4)),
    (1, 1, (2, 3)),
    (0, 4, (1, 1)),
]


@pytest.mark.parametrize(("axis", "tiles", "shape"), CASES)
def test_equals_numpy_and_sums_backward(axis, tiles, shape):
    x = uniform(*shape)
    text = f'type: "Tile" tile_param {{ axis: {axis} tiles: {tiles} }}'
    repeats = [1] * len(shape)
    repeats[axis] = tiles
    (y,) = SingleLayer(text, x).forward()
    np.testing.assert_array_equal(y, np.tile(x, repeats).astype(np.float32), strict=True)
    check_gradient(text, x)


def test_the_axis_is_1_by_default():
    (y,) = SingleLayer('type: "Tile" tile_param { tiles: 2 }', np.ones((2, 3, 4))).forward()
    assert y.shape == (2, 6, 4)


def test_another_batch():
    rig = SingleLayer('type: "Tile" tile_param { tiles: 2 }', uniform(2, 3))
    x = uniform(5, 2)
    rig.reshape(x)
    np.testing.assert_array_equal(rig.forward()[0], np.tile(x, (1, 2)).astype(np.float32))
    np.testing.assert_array_equal(rig.backward(np.ones((5, 4)))[0], np.full((5, 2), 2))


@pytest.mark.parametrize(
    ("param", "message"),
    [
        ("", "Number of tiles must be specified"),
        ("tiles: 0", r"\(0 vs. 0\) Number of tiles must be positive."),
        ("tiles: 2 axis: 2", "axis 2 out of range for 2-D Blob"),
    ],
)
def test_what_cannot_be(param, message):
    with pytest.raises(FatalError, match=message):
        SingleLayer(f'type: "Tile" tile_param {{ {param} }}', np.ones((2, 3)))


def test_not_in_place():
    with pytest.raises(FatalError, match="Tile Layer does not allow in-place computation."):
        SingleLayer('type: "Tile" tile_param { tiles: 1 }', np.ones((2, 3)), in_place=True)
