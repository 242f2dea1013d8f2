"""classification: the recorded prediction, values against a plain forward pass, and what can go wrong."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from caffetools.glog import FatalError
from caffetools.layer import TEST, Context
from caffetools.net import load_net
from caffetools.tools.classification import classify, find_pictures
from tests.recorded import FORMATS, log_lines, recorded_log, run_tool

FILES = ("deploy.prototxt", "small_iter_40.caffemodel", "mnist_mean.binaryproto", "labels.txt", "digit.png")
NET, WEIGHTS, MEAN, LABELS, DIGIT = FILES
LABEL_NAMES = (FORMATS / LABELS).read_text().splitlines()


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    for name in FILES:
        shutil.copy(FORMATS / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_digits(folder, count):
    """Write different pictures of 28 x 28, and return their values."""
    digits = np.random.default_rng(3).integers(0, 256, (count, 28, 28)).astype(np.uint8)
    for i, digit in enumerate(digits):
        Image.fromarray(digit).save(folder / f"{i:02d}.png")
    return digits


def scores(values):
    """Return the scores of all labels for inputs (n, 1, 28, 28), from a plain forward pass."""
    net = load_net(NET, TEST, Context())
    net.copy_from(WEIGHTS)
    net.blobs["data"].reshape(values.shape)
    net.reshape()
    net.blobs["data"].data[...] = values
    net.forward()
    return net.blobs["prob"].data.copy()


def run(*pictures, mean="44.8", **options):
    return list(classify(NET, WEIGHTS, mean, LABELS, pictures, **options))


def test_prediction_and_log_as_recorded(folder):
    command, status, out, err = recorded_log("log_classification")
    result = run_tool("classification", "--logtostderr", *command[1:], cwd=folder)
    assert (result.returncode, result.stdout) == (status, out)
    assert log_lines(result.stderr) == log_lines(err)


def test_log_goes_to_files_only_as_in_the_original(folder):
    result = run_tool("classification", "--log_dir=.", *FILES, cwd=folder)
    assert log_lines(result.stderr) == []
    assert list(folder.glob("classification.*.log.INFO.*"))


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_many_pictures(folder, batch):
    digits = write_digits(folder, 7)
    expected = scores(digits[:, np.newaxis] - np.float32(44.8))
    results = run(*(f"{i:02d}.png" for i in range(7)), top=10, batch=batch)
    assert [result.file for result in results] == [f"{i:02d}.png" for i in range(7)]
    for result, row in zip(results, expected, strict=True):
        found = dict(result.scores)
        assert list(found) == sorted(found, key=found.get, reverse=True) and len(found) == 10
        np.testing.assert_allclose([found[name] for name in LABEL_NAMES], row, rtol=1e-4, atol=1e-7)


def test_top():
    assert [len(run(DIGIT, top=top)[0].scores) for top in (1, 3, 10, 99)] == [1, 3, 10, 10]


@pytest.mark.parametrize("size", [(28, 28), (56, 56), (56, 280)])
def test_whole_picture_is_resized(size):
    """A picture of one grey in each half keeps its halves, whatever its size."""
    picture = np.zeros(size, np.uint8)
    picture[:, size[1] // 2 :] = 200
    Image.fromarray(picture).convert("RGB").save("halves.bmp")
    halves = np.zeros((1, 1, 28, 28), np.float32)
    halves[..., 14:] = 200
    (row,) = scores(halves - np.float32(44.8))
    found = dict(run("halves.bmp", top=10)[0].scores)
    np.testing.assert_allclose([found[name] for name in LABEL_NAMES], row, rtol=1e-4, atol=1e-7)


def test_means(folder):
    """The mean of the mean picture, as a number, gives what the file gives."""
    by_file = run(DIGIT, mean=MEAN, top=10)
    assert run(DIGIT, mean="44.809", top=10)[0].scores[0] == by_file[0].scores[0]
    (row,) = scores(np.asarray(Image.open(DIGIT), np.float32)[np.newaxis, np.newaxis])
    found = dict(run(DIGIT, mean="", top=10)[0].scores)
    np.testing.assert_allclose([found[name] for name in LABEL_NAMES], row, rtol=1e-4, atol=1e-7)


def test_side_file(folder):
    """Scale, mean, size of the short side and crop come from the file beside the net's prototxt."""
    (folder / "deploy.transform.prototxt").write_text(
        "scale: 0.00390625 mean_value: 10 crop_size: 28 mirror: true augmentation { resize_short: 28 }"
    )
    picture = np.zeros((28, 40), np.uint8)
    picture[:, 6:34] = np.arange(28) * 9
    Image.fromarray(picture).save("wide.png")
    Image.fromarray(picture.repeat(2, 0).repeat(2, 1)).save("large.png")
    expected = scores(((picture[:, 6:34] - np.float32(10)) / 256)[np.newaxis, np.newaxis])[0]
    for result in run("wide.png", "large.png", mean="", top=10):
        found = dict(result.scores)
        np.testing.assert_allclose([found[name] for name in LABEL_NAMES], expected, rtol=1e-4, atol=1e-6)
    expected = scores(((picture[:, 6:34] - np.float32(20)) / 256)[np.newaxis, np.newaxis])[0]
    found = dict(run("wide.png", mean="20", top=10)[0].scores)  # what is said on the line goes first
    np.testing.assert_allclose([found[name] for name in LABEL_NAMES], expected, rtol=1e-4, atol=1e-6)


def test_a_side_file_that_does_not_fit(folder):
    (folder / "deploy.transform.prototxt").write_text("crop_size: 20")
    (result,) = run(DIGIT)
    assert "1 x 20 x 20 by deploy.transform.prototxt, but the net takes 1 x 28 x 28" in result.problem
    (folder / "deploy.transform.prototxt").write_text("crop: 20")
    with pytest.raises(FatalError, match="deploy.transform.prototxt"):
        run(DIGIT)


def test_folders(folder):
    write_digits(folder, 3)
    (folder / "sub").mkdir()
    shutil.copy(DIGIT, "sub/b.PNG")
    shutil.copy(LABELS, "sub/a.txt")
    assert find_pictures([DIGIT, "sub"]) == [DIGIT, "sub/b.PNG"]
    (folder / "empty").mkdir()
    with pytest.raises(FatalError, match="no pictures in the folder empty"):
        find_pictures(["empty"])


def test_tables(folder):
    write_digits(folder, 3)
    options = ["--top=2", "--csv=out.csv", "--json=out.json"]
    pictures = [f"{i:02d}.png" for i in range(3)]
    result = run_tool(
        "classification", *options, NET, WEIGHTS, "0", LABELS, *pictures, cwd=folder, check=True
    )
    expected = [
        (r.file, str(rank), s.label, s.score)
        for r in run(*pictures, mean="0", top=2)
        for rank, s in enumerate(r.scores, 1)
    ]
    with open("out.csv", newline="") as file:
        rows = [(row["file"], row["rank"], row["label"], float(row["score"])) for row in csv.DictReader(file)]
    assert rows == expected
    with open("out.json") as file:
        objects = json.load(file)
    assert [
        (o["file"], str(rank), p["label"], p["score"])
        for o in objects
        for rank, p in enumerate(o["predictions"], 1)
    ] == expected
    assert result.stdout.count("---------- Prediction for ") == 3


def test_one_picture_that_cannot_be_read_is_fatal(folder):
    for name, why in (("nowhere.png", "No such file"), (LABELS, "no picture of a known format")):
        result = run_tool("classification", *FILES[:4], name, cwd=folder)
        assert (result.returncode, result.stdout) == (134, "")
        last = log_lines(result.stderr)[-1]
        assert (
            last.startswith(f"F Check failed: !img.empty() Unable to decode image {name} (") and why in last
        )


def test_the_others_of_many_pictures_are_classified(folder):
    result = run_tool("classification", *FILES[:4], "nowhere.png", DIGIT, cwd=folder)
    assert result.returncode == 1
    assert result.stdout == recorded_log("log_classification")[2]
    assert log_lines(result.stderr)[-1].startswith("E Unable to decode image nowhere.png")


def test_usage(folder):
    result = run_tool("classification", *FILES[:4], cwd=folder)
    assert (result.returncode, result.stdout) == (1, "")
    assert "deploy.prototxt network.caffemodel MEAN labels.txt PICTURE" in result.stderr


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (lambda net: net, {"labels": "nowhere"}, "Check failed: labels Unable to open labels file nowhere"),
        (
            lambda net: net,
            {"labels": NET},
            r"labels_.size\(\) == output_layer->channels\(\) \(7 vs. 10\) Number of",
        ),
        (lambda net: net, {"mean": "1,2,3"}, "Give one mean value, or one for each of 1 channels: '1,2,3'"),
        (lambda net: net, {"mean": "nowhere"}, "nowhere"),
        (lambda net: net, {"top": 0}, "--top=0"),
        (lambda net: net, {"batch": 0}, "--batch=0"),
        (lambda net: net, {"weights": "nowhere"}, "nowhere"),
        (
            lambda net: net.replace("dim: 1 dim: 28", "dim: 2 dim: 28"),
            {},
            "Input layer should have 1 or 3 channels",
        ),
        (lambda net: net + 'layer { name: "x" type: "Input" top: "x" }', {}, "exactly one input"),
        (
            lambda net: net + 'layer { name: "x" type: "ReLU" bottom: "ip1" top: "x" }',
            {},
            "exactly one output",
        ),
        (
            lambda net: net.replace("dim: 1 dim: 28", "dim: 3 dim: 28"),
            {"weights": ""},
            "doesn't match input layer",
        ),
    ],
)
def test_files_that_do_not_fit(folder, change, arguments, message):
    (folder / NET).write_text(change((FORMATS / NET).read_text()))
    files = {"mean": MEAN, "weights": WEIGHTS, "labels": LABELS} | arguments
    if "channels" in message or "doesn't" in message:
        net = load_net(NET, TEST, Context())  # weights that fit the changed net
        from caffetools.formats import binary

        binary.write("own.caffemodel", net.to_proto())
        files["weights"] = "own.caffemodel"
    with pytest.raises(FatalError, match=message):
        list(classify(NET, files["weights"], files["mean"], files["labels"], [DIGIT], **{
            name: value for name, value in files.items() if name in ("top", "batch")
        }))  # fmt: skip
