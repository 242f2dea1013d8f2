from __future__ import annotations

import numpy as np
import pytest

from caffetools.glog import FatalError
from tests.layers.gradient import SingleLayer, check_gradient, uniform

# dims, other parameters, shape of the bottom and of the top
CASES = [
    ((0, -1), "", (2, 3, 4), (2, 12)),
    ((-1,), "", (2, 3, 4), (24,)),
    ((0, 0, 2, -1), "", (2, 3, 8), (2, 3, 2, 4)),
    ((6, 4), "", (2, 3, 4), (6, 4)),
    ((3, 2), "axis: 1 num_axes: 1", (5, 6, 7), (5, 3, 2, 7)),
    ((-1,), "axis: 1 num_axes: 2", (2, 3, 4, 5), (2, 12, 5)),
    ((0, -1), "axis: 1", (2, 3, 4, 5), (2, 3, 20)),
    ((1,), "axis: -1 num_axes: 0", (2, 3), (2, 3, 1)),
    ((1,), "axis: 0 num_axes: 0", (2, 3), (1, 2, 3)),
    ((-1,), "axis: -2", (2, 3, 4), (2, 3, 4)),
    ((), "", (1, 1), ()),
    ((1, 1), "", (), (1, 1)),
    ((-1,), "", (), (1,)),
]


def layer_text(dims, param=""):
    return f'type: "Reshape" reshape_param {{ shape {{ {" ".join(f"dim: {d}" for d in dims)} }} {param} }}'


@pytest.mark.parametrize(("dims", "param", "shape", "expected"), CASES)
def test_shape_and_values(dims, param, shape, expected):
    x = uniform(*shape)
    rig = SingleLayer(layer_text(dims, param), x)
    (y,) = rig.forward()
    np.testing.assert_array_equal(y, x.reshape(expected).astype(np.float32), strict=True)
    assert rig.top[0].shares_data_with(rig.bottom[0])


def test_gradient():
    check_gradient(layer_text((0, -1, 2)), uniform(2, 3, 4))


def test_another_batch():
    rig = SingleLayer(layer_text((-1, 4)), uniform(2, 3, 4))
    for rows in (5, 1):
        x = uniform(rows, 3, 4)
        rig.reshape(x)
        np.testing.assert_array_equal(rig.forward()[0], x.reshape(-1, 4).astype(np.float32))
        np.testing.assert_array_equal(rig.backward(np.ones((rows * 3, 4)))[0], np.ones_like(x))


@pytest.mark.parametrize(
    ("dims", "param", "message"),
    [
        ((-1, 2, -1), "", "new shape contains multiple -1 dims; at most a single"),
        ((5, -1), "", r"bottom count \(24\) must be divisible by the product of the specified .* \(5\)"),
        ((5, 5), "", r"\(25 vs. 24\) output count must match input count \(layer 'under_test'\)"),
        ((0, 0, 0, 0), "", "new shape contains a 0, but there was no corresponding bottom axis to copy"),
        ((-1,), "axis: 4", r"\(4 vs. 3\) axis 4 out of range for 3-D input blob"),
        ((-1,), "axis: -5", r"\(-1 vs. 0\) axis -5 out of range for 3-D input blob"),
        ((-1,), "num_axes: -2", "num_axes must be >= 0, or -1 for all"),
        ((-1,), "axis: 2 num_axes: 2", r"\(4 vs. 3\) end_axis = axis \+ num_axes is out of range"),
    ],
)
def test_what_cannot_be(dims, param, message):
    with pytest.raises(FatalError, match=message):
        SingleLayer(layer_text(dims, param), np.ones((2, 3, 4)))


def test_not_in_place():
    with pytest.raises(FatalError, match="Reshape Layer does not allow in-place computation."):
        SingleLayer(layer_text((-1,)), np.ones((2, 3)), in_place=True)
