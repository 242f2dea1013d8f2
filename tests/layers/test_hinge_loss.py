from __future__ import annotations

import numpy as np
import pytest

from caffetools.glog import FatalError
from tests.layers.gradient import SingleLayer, away_from, check_gradient, uniform

SHAPES = [(6, 5), (1, 1), (1, 4), (2, 3, 2), (7, 2, 1, 1)]


def formula(x, labels, power):
    rows = x.reshape(len(x), -1)
    sign = np.where(np.arange(rows.shape[1]) == labels[:, None], 1, -1)
    return (np.maximum(0, 1 - sign * rows) ** power).sum() / len(rows)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("param", "power"), [("", 1), ("norm: L1", 1), ("norm: L2", 2)])
def test_formula_and_gradient(shape, param, power):
    text = f'type: "HingeLoss" hinge_loss_param {{ {param} }}'
    x = away_from([-1, 1], *shape, low=-2, high=2)
    labels = np.random.default_rng(1).integers(0, x[0].size, shape[0])
    (loss,) = SingleLayer(text, x, labels).forward()
    np.testing.assert_allclose(loss, formula(x, labels, power), rtol=1e-5)
    check_gradient(text, x, labels, check=[0])


def test_another_batch():
    rig = SingleLayer('type: "HingeLoss"', uniform(2, 3), np.zeros(2))
    x, labels = uniform(5, 4), np.array([3, 0, 1, 2, 2])
    rig.reshape(x, labels)
    np.testing.assert_allclose(rig.forward()[0], formula(x, labels, 1), rtol=1e-6)


@pytest.mark.parametrize(
    ("x", "labels", "message"),
    [
        ((4, 3), (5,), "The data and label should have the same first dimension."),
        ((4, 3), (4, 2), r"\(8 vs. 4\) there must be one label for each row of scores."),
    ],
)
def test_shapes_that_do_not_fit(x, labels, message):
    with pytest.raises(FatalError, match=message):
        SingleLayer('type: "HingeLoss"', np.ones(x), np.zeros(labels))


def test_a_label_that_is_no_class():
    rig = SingleLayer('type: "HingeLoss"', uniform(2, 3), np.array([0, 3]))
    with pytest.raises(FatalError, match="label 3 at index 1 of the batch is not one of the classes 0 to 2"):
        rig.forward()


def test_labels_have_no_gradient():
    rig = SingleLayer('type: "HingeLoss"', uniform(2, 3), np.zeros(2))
    rig.forward()
    with pytest.raises(FatalError, match="HingeLoss Layer cannot backpropagate to label inputs."):
        rig.backward(np.ones(()))
