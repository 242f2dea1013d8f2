from __future__ import annotations

import numpy as np
import pytest

from caffetools.formats import binary
from caffetools.formats import blob as blob_format
from caffetools.glog import FatalError
from caffetools.proto import caffe_pb2
from tests.layers.gradient import SingleLayer, check_gradient, uniform

# shape of the scores, their class axis, shape of the labels
SHAPES = [((6, 5), 1, (6,)), ((2, 3, 4, 5), 1, (2, 4, 5)), ((3, 2, 4), -1, (3, 2)), ((1, 1), 1, (1,))]


def layer_text(loss_param="", **infogain):
    infogain = " ".join(f"{name}: {value}" for name, value in infogain.items())
    return f'type: "InfogainLoss" loss_param {{ {loss_param} }} infogain_loss_param {{ {infogain} }}'


def log_softmax(x, axis):
    x = np.moveaxis(x, axis, -1)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def case(shape, axis, label_shape):
    random = np.random.default_rng(2)
    classes = shape[axis]
    labels = random.integers(0, classes, label_shape)
    return random.normal(size=shape), labels, random.uniform(0, 2, (classes, classes))


def gradient(rig):
    return rig.backward(np.ones(()), propagate_down=[True, False, False])[0]


@pytest.mark.parametrize(("shape", "axis", "label_shape"), SHAPES)
@pytest.mark.parametrize("normalization", ["VALID", "FULL", "BATCH_SIZE", "NONE"])
def test_formula_and_gradient(shape, axis, label_shape, normalization):
    x, labels, matrix = case(shape, axis, label_shape)
    text = layer_text(f"normalization: {normalization}", axis=axis)
    (loss,) = SingleLayer(text, x, labels, matrix).forward()
    outer = np.prod(shape[: axis % len(shape)])
    norm = {"VALID": labels.size, "FULL": labels.size, "BATCH_SIZE": outer, "NONE": 1}[normalization]
    expected = -(matrix[labels] * log_softmax(x, axis)).sum() / norm
    np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=1e-7)
    check_gradient(text, x, labels, matrix, check=[0])


def test_ignored_labels():
    x, labels, matrix = case((4, 3, 5), 1, (4, 5))
    text = layer_text("ignore_label: 1")
    counts = labels != 1
    (loss,) = SingleLayer(text, x, labels, matrix).forward()
    expected = -(matrix[labels] * log_softmax(x, 1))[counts].sum() / counts.sum()
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    check_gradient(text, x, labels, matrix, check=[0])


def test_the_unit_matrix_gives_softmax_with_loss():
    x, labels, _ = case((4, 3, 5), 1, (4, 5))
    infogain = SingleLayer(layer_text(), x, labels, np.eye(3))
    softmax = SingleLayer('type: "SoftmaxWithLoss"', x, labels)
    np.testing.assert_allclose(infogain.forward()[0], softmax.forward()[0], rtol=1e-6)
    diffs = [gradient(rig) for rig in (infogain, softmax)]
    np.testing.assert_allclose(*diffs, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("shape", [(4, 4), (1, 1, 4, 4), (16,)], ids=str)
def test_the_matrix_may_come_from_a_file(tmp_path, shape):
    x, labels, matrix = case((6, 4), 1, (6,))
    binary.write(tmp_path / "h", blob_format.fill_proto(caffe_pb2.BlobProto(), matrix.reshape(shape)))
    from_file = SingleLayer(layer_text(source=f'"{tmp_path / "h"}"'), x, labels)
    from_bottom = SingleLayer(layer_text(), x, labels, matrix)
    np.testing.assert_array_equal(from_file.forward(), from_bottom.forward())
    diffs = [gradient(rig) for rig in (from_file, from_bottom)]
    np.testing.assert_array_equal(*diffs)


def test_the_second_top_holds_the_probabilities():
    x, labels, matrix = case((6, 5), 1, (6,))
    _, prob = SingleLayer(layer_text(), x, labels, matrix, tops=2).forward()
    np.testing.assert_allclose(prob, np.exp(log_softmax(x, 1)), rtol=1e-5)


def test_a_probability_of_zero_counts_as_1e_20():
    rig = SingleLayer(layer_text(), np.array([[0.0, 500.0]]), np.zeros(1), np.eye(2))
    np.testing.assert_allclose(rig.forward()[0], -np.log(1e-20), rtol=1e-6)


def test_another_batch():
    rig = SingleLayer(layer_text(), *case((2, 3), 1, (2,)))
    x, labels, matrix = case((5, 3, 4), 1, (5, 4))
    rig.reshape(x, labels, matrix)
    np.testing.assert_allclose(rig.forward()[0], -(matrix[labels] * log_softmax(x, 1)).sum() / 20, rtol=1e-5)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([(4, 3), (4,)], "Infogain matrix source must be specified."),
        ([(4, 3), (4,), (3, 4)], r"infogain->count\(\) == num_labels_\*num_labels_ \(12 vs. 9\)"),
        ([(4, 3), (4, 2), (3, 3)], r"\(4 vs. 8\) Number of labels must match number of predictions"),
        ([(4, 3), (3,), (3, 3)], "The data and label should have the same first dimension."),
    ],
)
def test_shapes_that_do_not_fit(shapes, message):
    with pytest.raises(FatalError, match=message):
        SingleLayer(layer_text(), *(np.zeros(shape) for shape in shapes))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (layer_text("normalize: true"), 'normalize is deprecated. use "normalization"'),
        (layer_text(source='"no/such.file"'), "no/such.file"),
    ],
)
def test_parameters_that_cannot_be_honoured(text, message):
    with pytest.raises(FatalError, match=message):
        SingleLayer(text, np.zeros((4, 3)), np.zeros(4))


def test_a_label_that_is_no_class():
    rig = SingleLayer(layer_text(), uniform(2, 3), np.array([0, 5]), np.eye(3))
    with pytest.raises(FatalError, match="label 5 at index 1 of the batch is not one of the classes 0 to 2"):
        rig.forward()


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ([True, True, False], "InfogainLoss Layer cannot backpropagate to label inputs."),
        ([True, False, True], "InfogainLoss Layer cannot backpropagate to infogain inputs."),
    ],
)
def test_labels_and_matrix_have_no_gradient(wanted, message):
    rig = SingleLayer(layer_text(), uniform(2, 3), np.zeros(2), np.eye(3))
    rig.forward()
    with pytest.raises(FatalError, match=message):
        rig.backward(np.ones(()), propagate_down=wanted)
    assert [rig.layer.allow_force_backward(i) for i in range(3)] == [True, False, False]
