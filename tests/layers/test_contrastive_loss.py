from __future__ import annotations

import numpy as np
import pytest

from caffetools.glog import FatalError
from tests.layers.gradient import SingleLayer, check_gradient, uniform

ALIKE = np.array([1, 0, 0, 1, 0, 2])


def layer_text(param=""):
    return f'type: "ContrastiveLoss" contrastive_loss_param {{ {param} }}'


def formula(a, b, alike, margin, legacy):
    squares = ((a - b) ** 2).reshape(len(a), -1).sum(1)
    unlike = np.maximum(margin - squares, 0) if legacy else np.maximum(margin - np.sqrt(squares), 0) ** 2
    return np.where(alike != 0, squares, unlike).sum() / (2 * len(a))


@pytest.mark.parametrize("shape", [(6, 4), (6, 2, 1, 1), (6, 1)], ids=str)
@pytest.mark.parametrize(("param", "margin"), [("", 1), ("margin: 2", 2), ("margin: 0.5", 0.5)])
@pytest.mark.parametrize("legacy", [False, True])
def test_formula_and_gradient(shape, param, margin, legacy):
    a, b = uniform(*shape, seed=1), uniform(*shape, seed=2)
    text = layer_text(f"{param} legacy_version: {str(legacy).lower()}")
    (loss,) = SingleLayer(text, a, b, ALIKE).forward()
    np.testing.assert_allclose(loss, formula(a, b, ALIKE, margin, legacy), rtol=1e-5)
    # The 1e-4 that the original adds to the distance keeps the gradient from being exact.
    check_gradient(text, a, b, ALIKE, check=[0, 1], tolerance=1e-7 if legacy else 1e-3)


def test_equal_vectors_that_should_differ():
    a = np.ones((1, 3))
    rig = SingleLayer(layer_text("margin: 2"), a, a, np.zeros(1))
    assert rig.forward()[0] == 2
    da, db, _ = rig.backward(np.ones(()), propagate_down=[True, True, False])
    assert not da.any() and not db.any()


def test_only_the_wanted_gradients_are_written():
    rig = SingleLayer(layer_text(), uniform(6, 2, seed=1), uniform(6, 2, seed=2), ALIKE)
    rig.forward()
    da, db, _ = rig.backward(np.ones(()), propagate_down=[False, True, False])
    assert np.isnan(da).all() and np.isfinite(db).all()


def test_another_batch():
    rig = SingleLayer(layer_text(), uniform(6, 2), uniform(6, 2), ALIKE)
    a, b = uniform(3, 5, seed=1), uniform(3, 5, seed=2)
    rig.reshape(a, b, ALIKE[:3])
    np.testing.assert_allclose(rig.forward()[0], formula(a, b, ALIKE[:3], 1, False), rtol=1e-5)


@pytest.mark.parametrize(
    ("a", "b", "labels", "message"),
    [
        ((4, 3), (5, 3), (4,), "The data and label should have the same first dimension."),
        ((4, 3), (4, 2), (4,), r"bottom\[0\]->channels\(\) == bottom\[1\]->channels\(\) \(3 vs. 2\)"),
        ((4, 3, 2, 1), (4, 3, 2, 1), (4,), r"bottom\[0\]->height\(\) == 1 \(2 vs. 1\)"),
        ((4, 3), (4, 3, 1, 2), (4,), r"bottom\[1\]->width\(\) == 1 \(2 vs. 1\)"),
        ((4, 3), (4, 3), (4, 2), r"bottom\[2\]->channels\(\) == 1 \(2 vs. 1\)"),
        ((4, 3), (4, 3), (3,), r"\(3 vs. 4\) there must be one label for each pair."),
    ],
)
def test_shapes_that_do_not_fit(a, b, labels, message):
    with pytest.raises(FatalError, match=message):
        SingleLayer(layer_text(), np.ones(a), np.ones(b), np.ones(labels))


def test_labels_have_no_gradient():
    rig = SingleLayer(layer_text(), uniform(6, 2), uniform(6, 2), ALIKE)
    rig.forward()
    with pytest.raises(FatalError, match="ContrastiveLoss Layer cannot backpropagate to label inputs."):
        rig.backward(np.ones(()))
    assert [rig.layer.allow_force_backward(i) for i in range(3)] == [True, True, False]
