"""`caffe test --confusion`: counts against plain loops over made-up outputs, and the files of a recorded run."""

from __future__ import annotations

import csv
import shutil

import numpy as np
import pytest
from google.protobuf import text_format
from PIL import Image

from caffetools.formats import binary
from caffetools.formats import blob as blob_format
from caffetools.glog import FatalError
from caffetools.layer import TEST, Context
from caffetools.net import load_net
from caffetools.proto import caffe_pb2
from caffetools.tools.confusion import KEPT, Confusion, per_class_accuracy, probabilities
from caffetools.tools.inputs_as_pictures import restore
from tests.recorded import FORMATS, log_lines, recorded_log, run_tool, split_numbers

CLASSES = 4


def judge(shape, label_shape, layer):
    """A net that is given scores and labels, and the confusion that watches it."""
    inputs = "".join(
        f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ {dims} }} }} }}'
        for name, dims in (
            ("score", " ".join(f"dim: {size}" for size in shape)),
            ("label", " ".join(f"dim: {size}" for size in label_shape)),
        )
    )
    text = inputs + f'layer {{ name: "judge" bottom: "score" bottom: "label" top: "out" {layer} }}'
    net = load_net(text_format.Parse(text, caffe_pb2.NetParameter()), TEST, Context())
    return net, Confusion(net)


def run(net, confusion, scores, labels):
    for score, label in zip(scores, labels, strict=True):
        net.blobs["score"].data[...] = score
        net.blobs["label"].data[...] = label
        net.forward()
        confusion.add()


@pytest.fixture
def rng():
    return np.random.default_rng(11)


@pytest.mark.parametrize("layer", ['type: "Accuracy"', 'type: "SoftmaxWithLoss"', 'type: "HingeLoss"'])
def test_counts(layer, rng):
    scores = rng.normal(size=(5, 8, CLASSES)).astype(np.float32)
    labels = rng.integers(0, CLASSES, (5, 8))
    net, confusion = judge((8, CLASSES), (8,), layer)
    run(net, confusion, scores, labels)
    expected = np.zeros((CLASSES, CLASSES), int)
    wrong = []
    for index, (score, label) in enumerate(zip(scores.reshape(-1, CLASSES), labels.ravel(), strict=True)):
        predicted = int(np.argmax(score))
        expected[label, predicted] += 1
        if predicted != label:
            share = np.exp(np.float64(score[predicted])) / np.exp(score.astype(np.float64)).sum()
            wrong.append((index, int(label), predicted, share))
    np.testing.assert_array_equal(confusion.matrix, expected)
    wrong.sort(key=lambda outcome: -outcome[3])
    found = [(w.index, w.label, w.predicted) for w in confusion.wrong]
    assert found == [outcome[:3] for outcome in wrong][:KEPT]
    assert [w.confidence for w in confusion.wrong] == pytest.approx([o[3] for o in wrong][:KEPT])


def test_only_the_worst_are_kept(rng):
    scores = rng.normal(size=(10, 30, CLASSES)).astype(np.float32)
    labels = (scores.argmax(axis=2) + 1) % CLASSES  # all wrong
    net, confusion = judge((30, CLASSES), (30,), 'type: "Accuracy"')
    run(net, confusion, scores, labels)
    best = probabilities(scores.reshape(-1, CLASSES)).max(axis=1)
    assert [w.index for w in confusion.wrong] == np.argsort(-best)[:KEPT].tolist()
    assert np.trace(confusion.matrix) == 0 and confusion.matrix.sum() == 300


def test_labels_for_each_pixel(rng):
    scores = rng.normal(size=(2, 3, CLASSES, 2, 5)).astype(np.float32)
    labels = rng.integers(0, CLASSES, (2, 3, 2, 5))
    layer = 'type: "SoftmaxWithLoss" loss_param { ignore_label: 2 }'
    net, confusion = judge((3, CLASSES, 2, 5), (3, 2, 5), layer)
    run(net, confusion, scores, labels)
    expected = np.zeros((CLASSES, CLASSES), int)
    for place in np.ndindex(2, 3, 2, 5):
        if labels[place] != 2:
            score = scores[place[0], place[1], :, place[2], place[3]]
            expected[labels[place], score.argmax()] += 1
    np.testing.assert_array_equal(confusion.matrix, expected)
    samples = [w.index for w in confusion.wrong]
    assert len(set(samples)) == len(samples) and set(samples) <= set(range(6))


def test_the_last_accuracy_layer_counts():
    layer = (
        'type: "Accuracy" } layer { name: "second" type: "Accuracy" bottom: "label2" bottom: "label" top: "b"'
    )
    second = 'layer { name: "label2" type: "Input" top: "label2" input_param { shape { dim: 2 dim: 3 } } } '
    text = (
        'layer { name: "score" type: "Input" top: "score" input_param { shape { dim: 2 dim: 5 } } }'
        'layer { name: "label" type: "Input" top: "label" input_param { shape { dim: 2 } } }'
        f'{second} layer {{ name: "judge" bottom: "score" bottom: "label" top: "a" {layer} }}'
    )
    confusion = Confusion(load_net(text_format.Parse(text, caffe_pb2.NetParameter()), TEST, Context()))
    assert confusion.matrix.shape == (3, 3)


def test_scores_that_are_nan_are_told(rng):
    net, confusion = judge((2, CLASSES), (2,), 'type: "Accuracy"')
    run(net, confusion, [[[np.nan, 0, 1, 2], [0, 3, 1, 2]]], [[0, 1]])
    assert confusion.undecided == 1
    assert confusion.matrix.sum() == confusion.matrix[1, 1] == 1


def test_accuracy_of_each_class():
    accuracy = per_class_accuracy(np.array([[3, 1, 0], [0, 0, 0], [5, 0, 5]]))
    np.testing.assert_array_equal(accuracy, [0.75, np.nan, 0.5])


def test_probabilities_stay():
    shares = np.array([[0.25, 0.75], [1, 0]])
    np.testing.assert_array_equal(probabilities(shares), shares)
    np.testing.assert_allclose(probabilities(np.array([[0, np.log(3)]])), [[0.25, 0.75]])


def test_a_net_without_labels():
    text = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 } } }'
    with pytest.raises(FatalError, match="--confusion needs a net that compares"):
        Confusion(load_net(text_format.Parse(text, caffe_pb2.NetParameter()), TEST, Context()))


@pytest.mark.parametrize(
    "text",
    ["", "scale: 0.00390625", "mean_value: 100 mean_value: 110 mean_value: 120", "mean_value: 30 scale: 0.5"],
)
def test_pictures_are_restored(text, rng):
    pixels = rng.integers(0, 256, (3, 4, 5))
    param = text_format.Parse(text, caffe_pb2.TransformationParameter())
    mean = np.array(param.mean_value or [0]).reshape(-1, 1, 1)
    np.testing.assert_array_equal(restore(((pixels - mean) * param.scale).astype(np.float32), param), pixels)


def test_a_mean_picture_is_added_by_its_colours(tmp_path, rng):
    pixels = rng.integers(0, 256, (3, 4, 5))
    proto = caffe_pb2.BlobProto()
    blob_format.fill_proto(proto, np.full((1, 3, 8, 8), 100, np.float32))
    path = str(tmp_path / "mean.binaryproto")
    binary.write(path, proto)
    param = caffe_pb2.TransformationParameter(mean_file=path)
    np.testing.assert_array_equal(restore((pixels - 100).astype(np.float32), param), pixels)


def test_other_values_are_stretched():
    values = np.array([[[0.0, 0.5, 1.0]]])
    assert restore(values, caffe_pb2.TransformationParameter()).ravel().tolist() == [0, 128, 255]


def test_command(tmp_path):
    pytest.importorskip("matplotlib")
    command, _, _, recorded = recorded_log("log_test")
    for path in FORMATS.glob("*.prototxt"):
        shutil.copy(path, tmp_path)
    for path in FORMATS.glob("*.caffemodel"):
        shutil.copy(path, tmp_path)
    shutil.copytree(FORMATS / "mnist_train_lmdb", tmp_path / "mnist_train_lmdb")
    shutil.copytree(FORMATS / "mnist_t10k_lmdb", tmp_path / "mnist_t10k_lmdb")
    result = run_tool("caffe", *command[1:], "--confusion=c.png", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    lines, before = log_lines(result.stderr), log_lines(recorded)
    assert [split_numbers(line)[0] for line in lines[: len(before)]] == [
        split_numbers(line)[0] for line in before
    ]
    assert lines[len(before)] == "I Confusion matrix: c.png, c.csv"

    with open(tmp_path / "c.csv", newline="") as file:
        rows = list(csv.reader(file))
    classes = len(rows) - 1
    assert rows[0] == ["label", *map(str, range(classes)), "total", "accuracy"]
    counts = np.array([[int(count) for count in row[1:-2]] for row in rows[1:]])
    totals = [int(row[-2]) for row in rows[1:]]
    assert counts.sum(axis=1).tolist() == totals
    (mean,) = [float(line.split(" = ")[1]) for line in before if line.startswith("I accuracy = ")]
    assert np.trace(counts) / sum(totals) == pytest.approx(mean, abs=1e-3)

    width, height = Image.open(tmp_path / "c.png").size
    assert width > height > 500
    with open(tmp_path / "c_wrong.csv", newline="") as file:
        wrong = list(csv.DictReader(file))
    assert len(wrong) == min(KEPT, sum(totals) - np.trace(counts))
    assert (tmp_path / "c_wrong.png").exists() == bool(wrong)


def test_refused_before_the_net_is_built(tmp_path):
    result = run_tool("caffe", "test", "--model=a", "--weights=b", "--confusion=c.jpg", cwd=tmp_path)
    assert result.returncode == 134
    assert "--confusion=c.jpg: the name of a picture ends in .png or .svg" in result.stderr
