"""Softmax and SoftmaxWithLoss against formulas in NumPy and numeric gradients."""

from __future__ import annotations

import numpy as np
import pytest

from caffetools.glog import FatalError
from tests.layers.gradient import SingleLayer, check_gradient, uniform

SHAPES = [
    ((3, 7, 4), 1),
    ((3, 7, 4), 2),
    ((3, 7, 4), 0),
    ((5, 10), 1),
    ((2, 3, 2, 5), -1),
    ((1, 1), 1),
    ((6,), 0),
]
each_shape = pytest.mark.parametrize(("shape", "axis"), SHAPES)


def softmax(x, axis):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def softmax_text(axis):
    return f'type: "Softmax" softmax_param {{ axis: {axis} }}'


@each_shape
@pytest.mark.parametrize("in_place", [False, True])
def test_softmax(shape, axis, in_place):
    x = uniform(*shape, low=-5, high=5)
    (y,) = SingleLayer(softmax_text(axis), x, in_place=in_place).forward()
    np.testing.assert_allclose(y, softmax(x, axis), rtol=1e-5)


@each_shape
@pytest.mark.parametrize("in_place", [False, True])
def test_softmax_gradient(shape, axis, in_place):
    check_gradient(softmax_text(axis), uniform(*shape, low=-2, high=2), in_place=in_place)


def test_softmax_of_large_values():
    (y,) = SingleLayer('type: "Softmax"', [[1000.0, 1000], [-1000, 1000], [-200, -1000]]).forward()
    np.testing.assert_allclose(y, [[0.5, 0.5], [0, 1], [1, 0]])


def test_softmax_of_no_items():
    assert SingleLayer('type: "Softmax"', np.zeros((0, 4))).forward()[0].shape == (0, 4)


def test_softmax_of_nan_is_nan():
    (y,) = SingleLayer('type: "Softmax"', [[1, np.nan, 2], [1, 2, 3]]).forward()
    assert np.isnan(y[0]).all()
    assert np.isfinite(y[1]).all()


def loss_text(settings="", axis=1):
    return f'type: "SoftmaxWithLoss" {settings} softmax_param {{ axis: {axis} }}'


def labels_for(shape, axis, seed=5):
    shape = list(shape)
    classes = shape.pop(axis)
    return np.random.default_rng(seed).integers(0, classes, shape)


LOSS_SHAPES = [((6, 5), 1), ((2, 5, 3, 4), 1), ((2, 3, 5), 2), ((1, 2), 1), ((3, 1), 1), ((4, 1000), 1)]
# settings, norm from (outer, inner, number of items that count)
NORMS = [
    ("", lambda outer, inner, valid: valid),
    ("loss_param { ignore_label: 1 }", lambda outer, inner, valid: valid),
    ("loss_param { normalization: FULL ignore_label: 1 }", lambda outer, inner, valid: outer * inner),
    ("loss_param { normalization: BATCH_SIZE ignore_label: 1 }", lambda outer, inner, valid: outer),
    ("loss_param { normalization: NONE }", lambda outer, inner, valid: 1),
    ("loss_param { normalize: true ignore_label: 1 }", lambda outer, inner, valid: valid),
    ("loss_param { normalize: false }", lambda outer, inner, valid: outer),
    ("loss_param { normalize: false normalization: FULL }", lambda outer, inner, valid: outer * inner),
]
each_loss = pytest.mark.parametrize(("shape", "axis"), LOSS_SHAPES)
each_norm = pytest.mark.parametrize(("settings", "norm"), NORMS, ids=[settings for settings, _ in NORMS])


@each_loss
@each_norm
def test_loss(shape, axis, settings, norm):
    x, labels = uniform(*shape, low=-3, high=3), labels_for(shape, axis)
    loss, prob = SingleLayer(loss_text(settings, axis), x, labels, tops=2).forward()
    expected = softmax(x, axis)
    p = np.take_along_axis(expected, np.expand_dims(labels, axis), axis).squeeze(axis)
    counts = labels != 1 if "ignore_label" in settings else np.ones_like(labels, bool)
    outer = int(np.prod(shape[:axis]))
    total = -np.log(p[counts]).sum() / max(1, norm(outer, labels.size // outer, counts.sum()))
    np.testing.assert_allclose(loss, total, rtol=1e-5)
    assert loss.shape == ()
    np.testing.assert_allclose(prob, expected, rtol=1e-5)


@each_loss
@each_norm
def test_loss_gradient(shape, axis, settings, norm):
    check_gradient(loss_text(settings, axis), uniform(*shape), labels_for(shape, axis), check=[0], samples=40)


def test_nothing_but_ignored_labels():
    rig = SingleLayer(loss_text("loss_param { ignore_label: 255 }"), uniform(3, 4), np.full(3, 255))
    assert rig.forward()[0] == 0
    assert not rig.backward(1, propagate_down=[True, False])[0].any()


def test_an_item_costs_at_most_the_logarithm_of_flt_min():
    (loss,) = SingleLayer(loss_text(), [[0.0, 500]], [0]).forward()
    assert abs(loss - 87.3365) < 1e-4


def test_loss_of_nan_is_nan():
    (loss,) = SingleLayer(loss_text(), [[np.nan, 0], [0, 0]], [0, 0]).forward()
    assert np.isnan(loss)


@pytest.mark.parametrize(("label", "shown"), [(3, "3"), (-1, "-1"), (np.nan, "nan"), (1e9, "1e+09")])
@pytest.mark.parametrize("kind", ["SoftmaxWithLoss", "Accuracy"])
def test_refuses_labels_that_are_no_class(kind, label, shown):
    rig = SingleLayer(f'name: "loss" type: "{kind}"', uniform(4, 3), [0, 1, label, 2])
    with pytest.raises(FatalError) as error:
        rig.forward()
    for words in (f"label {shown.replace('+', '+')} at index 2", "classes 0 to 2", "layer 'loss'"):
        assert words in str(error.value)


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4)])
def test_ignored_items_get_no_gradient_whatever_they_are(shape):
    x = uniform(*shape)
    x[0] = np.nan
    labels = np.zeros((2, *shape[2:]))
    labels[0] = 7
    rig = SingleLayer(loss_text("loss_param { ignore_label: 7 }"), x, labels)
    assert np.isfinite(rig.forward()[0])
    dx = rig.backward(1, propagate_down=[True, False])[0]
    assert not dx[0].any()
    assert dx[1].all()


def test_refuses_gradients_of_labels():
    rig = SingleLayer(loss_text(), uniform(2, 3), [0, 1])
    rig.forward()
    with pytest.raises(FatalError, match="SoftmaxWithLoss Layer cannot backpropagate to label inputs"):
        rig.backward(1)


@pytest.mark.parametrize("kind", ["SoftmaxWithLoss", "Accuracy"])
def test_refuses_another_number_of_labels(kind):
    with pytest.raises(FatalError, match="Number of labels must match number of predictions"):
        SingleLayer(f'type: "{kind}"', uniform(2, 3, 4), [0, 1])


def test_refuses_another_number_of_items():
    with pytest.raises(FatalError, match="The data and label should have the same first dimension"):
        SingleLayer(loss_text(), uniform(2, 3), [0, 1, 2])


def test_the_log_shows_the_inner_layer(capfd):
    SingleLayer('name: "loss" type: "SoftmaxWithLoss"', uniform(2, 3), [0, 1])
    assert capfd.readouterr().err.count("] Creating layer loss\n") == 1


def test_other_batches_later():
    rig = SingleLayer(loss_text(), uniform(2, 3), [0, 1], tops=2)
    for rows in (5, 1):
        x, labels = uniform(rows, 3), np.arange(rows) % 3
        rig.reshape(x, labels)
        loss, prob = rig.forward()
        np.testing.assert_allclose(prob, softmax(x, 1), rtol=1e-5)
        np.testing.assert_allclose(loss, -np.log(softmax(x, 1)[np.arange(rows), labels]).mean(), rtol=1e-5)
