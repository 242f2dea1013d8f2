from __future__ import annotations

import numpy as np
import pytest

from caffetools.blob import FlatBuffer
from tests.layers.gradient import SingleLayer, check_gradient, uniform


@pytest.mark.parametrize("shape", [(2, 3), (1,), (), (2, 1, 4)], ids=str)
def test_the_top_is_the_parameter(shape):
    dims = " ".join(f"dim: {size}" for size in shape)
    rig = SingleLayer(f'type: "Parameter" parameter_param {{ shape {{ {dims} }} }}')
    (y,) = rig.forward()
    np.testing.assert_array_equal(y, np.zeros(shape, np.float32), strict=True)
    rig.layer.blobs[0].data[...] = uniform(*shape)
    np.testing.assert_array_equal(rig.forward()[0], uniform(*shape).astype(np.float32))


def test_the_gradient_is_added():
    rig = SingleLayer('type: "Parameter" parameter_param { shape { dim: 3 } }')
    rig.forward()
    rig.layer.blobs[0].diff[...] = [1, 2, 3]
    rig.backward(np.array([10, 20, 30]))
    assert rig.layer.blobs[0].diff.tolist() == [11, 22, 33]
    rig.layer.param_propagate_down = [False]
    rig.backward(np.array([10, 20, 30]))
    assert rig.layer.blobs[0].diff.tolist() == [11, 22, 33]


def test_numeric_gradient():
    check_gradient('type: "Parameter" parameter_param { shape { dim: 3 dim: 2 } }', params=[uniform(3, 2)])


def test_the_top_follows_the_parameter_to_other_storage():
    rig = SingleLayer('type: "Parameter" parameter_param { shape { dim: 3 } }')
    rig.layer.blobs[0].place(FlatBuffer(3, np.float32).piece(0, 3))
    rig.layer.blobs[0].data[...] = [4, 5, 6]
    assert rig.forward()[0].tolist() == [4, 5, 6]
