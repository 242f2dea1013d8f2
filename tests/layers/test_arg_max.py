from __future__ import annotations

import numpy as np
import pytest

from caffetools.glog import FatalError
from tests.layers.gradient import SingleLayer, uniform


def layer_text(param=""):
    return f'type: "ArgMax" argmax_param {{ {param} }}'


def ranking(x, axis, k):
    """Return the indices of the k largest along an axis; of equal values the later comes first."""
    reverse = np.flip(x, axis)
    order = np.argsort(-reverse, axis=axis, kind="stable")
    return x.shape[axis] - 1 - np.take(order, range(k), axis=axis)


@pytest.mark.parametrize("shape", [(3, 7, 2), (2, 5), (4, 1), (1, 2, 3, 4), (2, 3, 1, 2, 2)], ids=str)
@pytest.mark.parametrize("values", [False, True])
@pytest.mark.parametrize("whole", [True, False])
def test_equals_a_stable_sort(shape, values, whole):
    x = np.round(uniform(*shape) * 2).astype(np.float32)  # so that many are equal
    axis = -1 if whole else 1
    source = x.reshape(shape[0], -1) if whole else x
    k = min(3, source.shape[axis])
    param = f"top_k: {k} {'out_max_val: true' if values else ''} {'' if whole else 'axis: 1'}"
    (y,) = SingleLayer(layer_text(param), x).forward()
    indices = ranking(source, axis, k)
    largest = np.take_along_axis(source, indices, axis)
    if whole:
        extra = (1,) * (len(shape) - 3)
        expected = np.stack([indices, largest], 1) if values else indices[:, None]
        np.testing.assert_array_equal(y, expected.reshape(*expected.shape, *extra))
    else:
        np.testing.assert_array_equal(y, largest if values else indices)


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_every_axis(axis):
    x = uniform(3, 4, 5)
    (y,) = SingleLayer(layer_text(f"axis: {axis}"), x).forward()
    np.testing.assert_array_equal(y, np.expand_dims(x.argmax(axis), axis))


def test_of_equal_values_the_last_wins():
    (y,) = SingleLayer(layer_text("top_k: 4"), np.zeros((1, 4))).forward()
    assert y.tolist() == [[[3, 2, 1, 0]]]


def test_it_has_no_gradient():
    rig = SingleLayer(layer_text(), uniform(2, 3))
    rig.forward()
    with pytest.raises(FatalError, match="ArgMax Layer has no gradient"):
        rig.backward(np.ones((2, 1, 1)))


@pytest.mark.parametrize(
    ("param", "message"),
    [
        ("top_k: 0", r"\(0 vs. 1\) top k must not be less than 1."),
        ("top_k: 13", r"\(13 vs. 12\) top_k must be less than or equal to the dimension of the flattened"),
        ("top_k: 4 axis: 1", r"\(4 vs. 3\) top_k must be less than or equal to the dimension of the axis."),
        ("axis: 3", "axis 3 out of range for 3-D Blob"),
    ],
)
def test_what_cannot_be(param, message):
    with pytest.raises(FatalError, match=message):
        SingleLayer(layer_text(param), np.ones((2, 3, 4)))


def test_a_blob_without_axes_is_refused():
    with pytest.raises(FatalError, match="axis 0 out of range for 0-D Blob"):
        SingleLayer(layer_text(), np.ones(()))
