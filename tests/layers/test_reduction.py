from __future__ import annotations

import numpy as np
import pytest

from caffetools.glog import FatalError
from tests.layers.gradient import SingleLayer, away_from, check_gradient, uniform

FORMULAS = {
    "SUM": lambda x, axes: x.sum(axis=axes),
    "ASUM": lambda x, axes: np.abs(x).sum(axis=axes),
    "SUMSQ": lambda x, axes: (x**2).sum(axis=axes),
    "MEAN": lambda x, axes: x.mean(axis=axes),
}
SHAPES = [(0, (2, 3, 5)), (1, (4, 3)), (2, (2, 3, 5, 7)), (-1, (3, 4)), (0, (1,)), (1, (1, 1, 1))]


@pytest.mark.parametrize("operation", FORMULAS)
@pytest.mark.parametrize(("axis", "shape"), SHAPES)
@pytest.mark.parametrize("coeff", [1, -1.5])
def test_formula_and_gradient(operation, axis, shape, coeff):
    text = f'type: "Reduction" reduction_param {{ operation: {operation} axis: {axis} coeff: {coeff} }}'
    x = away_from([0], *shape)
    axes = tuple(range(axis % len(shape), len(shape)))
    (y,) = SingleLayer(text, x).forward()
    np.testing.assert_allclose(y, coeff * FORMULAS[operation](x, axes), rtol=1e-5, atol=1e-6)
    assert y.shape == shape[: axes[0]]
    check_gradient(text, x)


def test_the_default_is_the_sum_of_everything():
    x = uniform(3, 4)
    (y,) = SingleLayer('type: "Reduction"', x).forward()
    np.testing.assert_allclose(y, x.sum(), rtol=1e-5)


def test_another_batch():
    rig = SingleLayer('type: "Reduction" reduction_param { operation: MEAN axis: 1 }', uniform(2, 3))
    x = uniform(5, 7)
    rig.reshape(x)
    np.testing.assert_allclose(rig.forward()[0], x.mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(rig.backward(np.ones(5))[0], np.full((5, 7), 1 / 7), rtol=1e-6)


def test_an_axis_out_of_range():
    with pytest.raises(FatalError, match="axis 2 out of range for 2-D Blob"):
        SingleLayer('type: "Reduction" reduction_param { axis: 2 }', np.ones((2, 3)))


def test_not_in_place():
    with pytest.raises(FatalError, match="Reduction Layer does not allow in-place computation."):
        SingleLayer('type: "Reduction"', np.ones((2, 3)), in_place=True)
