from __future__ import annotations

import numpy as np
import pytest

from caffetools.glog import FatalError
from tests.layers.gradient import SingleLayer, check_gradient, uniform

TEXT = 'type: "MultinomialLogisticLoss"'
SHAPES = [((6, 5), (6,)), ((1, 1), (1, 1)), ((3, 2, 2), (3, 1, 1, 1)), ((4, 7, 1, 1), (4,))]


@pytest.mark.parametrize(("shape", "label_shape"), SHAPES)
def test_formula_and_gradient(shape, label_shape):
    p = uniform(*shape, low=0.1, high=1)
    labels = np.random.default_rng(1).integers(0, p[0].size, label_shape)
    chosen = p.reshape(len(p), -1)[np.arange(len(p)), labels.reshape(-1)]
    (loss,) = SingleLayer(TEXT, p, labels).forward()
    np.testing.assert_allclose(loss, -np.log(chosen).mean(), rtol=1e-5, atol=1e-7)
    check_gradient(TEXT, p, labels, check=[0])


def test_a_probability_of_zero_counts_as_1e_20():
    rig = SingleLayer(TEXT, np.array([[0.0, 1.0]]), np.zeros(1))
    np.testing.assert_allclose(rig.forward()[0], -np.log(1e-20), rtol=1e-6)
    dp, _ = rig.backward(np.ones(()), propagate_down=[True, False])
    np.testing.assert_allclose(dp, [[-1e20, 0]], rtol=1e-6)


def test_a_nan_shows():
    assert np.isnan(SingleLayer(TEXT, np.full((2, 3), np.nan), np.zeros(2)).forward()[0])


def test_another_batch():
    rig = SingleLayer(TEXT, uniform(2, 3, low=0.1), np.zeros(2))
    p, labels = uniform(3, 2, low=0.1), np.array([1, 0, 1])
    rig.reshape(p, labels)
    np.testing.assert_allclose(rig.forward()[0], -np.log(p[np.arange(3), labels]).mean(), rtol=1e-6)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ((5,), "The data and label should have the same first dimension."),
        ((4, 2), r"bottom\[1\]->channels\(\) == 1 \(2 vs. 1\) there must be one label for each row"),
        ((4, 1, 3), r"bottom\[1\]->height\(\) == 1 \(3 vs. 1\)"),
    ],
)
def test_shapes_that_do_not_fit(labels, message):
    with pytest.raises(FatalError, match=message):
        SingleLayer(TEXT, np.ones((4, 3)), np.zeros(labels))


def test_a_label_that_is_no_class():
    rig = SingleLayer(TEXT, uniform(2, 3, low=0.1), np.array([-1, 0]))
    with pytest.raises(FatalError, match="label -1 at index 0 of the batch is not one of the classes 0 to 2"):
        rig.forward()


def test_labels_have_no_gradient():
    rig = SingleLayer(TEXT, uniform(2, 3, low=0.1), np.zeros(2))
    rig.forward()
    with pytest.raises(FatalError, match="LogisticLoss Layer cannot backpropagate to label inputs."):
        rig.backward(np.ones(()))
