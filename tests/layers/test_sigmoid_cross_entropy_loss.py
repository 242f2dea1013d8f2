from __future__ import annotations

import numpy as np
import pytest

from caffetools.glog import FatalError
from tests.layers.gradient import SingleLayer, check_gradient, uniform

SHAPES = [(4, 6), (5,), (1, 1), (2, 3, 5, 7), (7, 1)]
# loss_param, the norm as a function of the shape and the number of elements that count
NORMS = [
    ("", lambda shape, valid: shape[0]),
    ("normalization: BATCH_SIZE", lambda shape, valid: shape[0]),
    ("normalization: FULL", lambda shape, valid: np.prod(shape)),
    ("normalization: VALID", lambda shape, valid: valid),
    ("normalization: NONE", lambda shape, valid: 1),
    ("normalize: true", lambda shape, valid: valid),
    ("normalize: false", lambda shape, valid: shape[0]),
]


def layer_text(param=""):
    return f'type: "SigmoidCrossEntropyLoss" loss_param {{ {param} }}'


def cross_entropy(x, t):
    p = 1 / (1 + np.exp(-x))
    return -(t * np.log(p) + (1 - t) * np.log(1 - p))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("param", "norm"), NORMS)
def test_formula_and_gradient(shape, param, norm):
    x, t = uniform(*shape, low=-3, high=3), uniform(*shape, low=0, high=1)
    (loss,) = SingleLayer(layer_text(param), x, t).forward()
    expected = cross_entropy(x, t).sum() / norm(shape, x.size)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    check_gradient(layer_text(param), x, t, check=[0])


@pytest.mark.parametrize(("param", "norm"), NORMS)
def test_ignored_targets(param, norm):
    x = uniform(3, 5, low=-3, high=3)
    t = np.random.default_rng(1).integers(-1, 2, (3, 5))
    text = layer_text(f"ignore_label: -1 {param}")
    counts = t != -1
    (loss,) = SingleLayer(text, x, t).forward()
    expected = cross_entropy(x, t)[counts].sum() / norm(x.shape, counts.sum())
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    check_gradient(text, x, t, check=[0])


def test_nothing_but_ignored_targets():
    rig = SingleLayer(layer_text("ignore_label: 0 normalization: VALID"), uniform(2, 3), np.zeros((2, 3)))
    assert rig.forward()[0] == 0
    assert not rig.backward(np.ones(()), propagate_down=[True, False])[0].any()


def test_large_scores_neither_overflow_nor_vanish():
    x, t = np.array([[500, -500, 500, -500]]), np.array([[1, 0, 0, 1]])
    rig = SingleLayer(layer_text("normalization: NONE"), x, t)
    assert rig.forward()[0] == 1000
    np.testing.assert_array_equal(rig.backward(np.ones(()), propagate_down=[True, False])[0], [[0, 0, 1, -1]])


def test_another_batch():
    rig = SingleLayer(layer_text(), uniform(2, 3), uniform(2, 3, low=0))
    x, t = uniform(5, 2), uniform(5, 2, low=0)
    rig.reshape(x, t)
    np.testing.assert_allclose(rig.forward()[0], cross_entropy(x, t).sum() / 5, rtol=1e-6)


@pytest.mark.parametrize(
    ("x", "t", "message"),
    [
        ((4, 3), (4, 2), r"\(12 vs. 8\) SIGMOID_CROSS_ENTROPY_LOSS layer inputs must have the same count."),
        ((4, 3), (3, 4), "The data and label should have the same first dimension."),
    ],
)
def test_shapes_that_do_not_fit(x, t, message):
    with pytest.raises(FatalError, match=message):
        SingleLayer(layer_text(), np.ones(x), np.ones(t))


def test_targets_have_no_gradient():
    rig = SingleLayer(layer_text(), uniform(2, 3), uniform(2, 3))
    rig.forward()
    with pytest.raises(FatalError, match="EntropyLoss Layer cannot backpropagate to label inputs."):
        rig.backward(np.ones(()))
