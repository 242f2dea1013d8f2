"""EuclideanLoss against its formula and numeric gradients of both bottoms."""

from __future__ import annotations

import numpy as np
import pytest

from caffetools.glog import FatalError
from tests.layers.gradient import SingleLayer, check_gradient, uniform

SHAPES = [(4, 3, 2), (1, 1), (7,), (2, 1, 1, 5)]
TEXT = 'type: "EuclideanLoss"'


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_loss(shape):
    a, b = uniform(*shape), uniform(*shape, seed=4)
    (loss,) = SingleLayer(TEXT, a, b).forward()
    np.testing.assert_allclose(loss, ((a - b) ** 2).sum() / (2 * shape[0]), rtol=1e-6)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("check", [[0, 1], [0], [1]])
def test_gradient(shape, check):
    check_gradient(TEXT, uniform(*shape), uniform(*shape, seed=4), check=check)


def test_rows_may_have_another_shape_of_the_same_size():
    (loss,) = SingleLayer(TEXT, np.ones((2, 6)), np.zeros((2, 3, 2))).forward()
    assert loss == 3


def test_both_bottoms_may_be_forced_to_get_a_gradient():
    rig = SingleLayer(TEXT, uniform(2, 3), uniform(2, 3))
    assert [rig.layer.allow_force_backward(i) for i in range(2)] == [True, True]


def test_refuses():
    with pytest.raises(FatalError, match="Inputs must have the same dimension."):
        SingleLayer(TEXT, uniform(2, 3), uniform(2, 4))
    with pytest.raises(FatalError, match="The data and label should have the same first dimension"):
        SingleLayer(TEXT, uniform(2, 3), uniform(3, 2))
