"""caffe data: recorded databases and ones that are made with every oddity, pictures, and the check of labels."""

from __future__ import annotations

import csv
import shutil

import numpy as np
import pytest
from PIL import Image

from caffetools.formats import datum
from caffetools.formats.db import open_db
from caffetools.glog import FatalError
from caffetools.proto import caffe_pb2
from caffetools.tools import data
from caffetools.tools.database import Form, survey
from caffetools.tools.database_report import as_tile, text
from caffetools.tools.label_check import check_labels
from tests.recorded import FORMATS, run_tool

RNG = np.random.default_rng(2)
PICTURES = RNG.integers(0, 256, (6, 3, 4, 5)).astype(np.uint8)


def make(path, records, backend="lmdb"):
    """Make a database of (array or Datum or bytes, label) pairs."""
    if backend == "leveldb":
        pytest.importorskip("plyvel")
    with open_db(backend, path, "new") as db:
        for i, (record, label) in enumerate(records):
            if isinstance(record, np.ndarray):
                record = datum.from_array(record, label)
            db.put(b"%04d" % i, record if isinstance(record, bytes) else record.SerializeToString())
    return str(path)


@pytest.mark.parametrize("backend", ["lmdb", "leveldb"])
def test_counts(backend, tmp_path):
    records = [(PICTURES[i], label) for i, label in enumerate([2, 0, 2, 2, 0, 4])]
    path = make(tmp_path / "db", records, backend)
    found = survey(path)
    assert (found.backend, found.count, found.first_key, found.last_key) == (backend, 6, b"0000", b"0005")
    assert found.forms == {Form("bytes", (3, 4, 5)): 6}
    assert found.labels == {2: 3, 0: 2, 4: 1}
    assert (found.repeats, found.damages, found.samples) == (0, 0, [])
    with open_db(backend, path) as db:
        assert found.size == sum(len(value) for _, value in db)


def test_recorded_pictures():
    found = survey(str(FORMATS / "set_encoded_lmdb"))
    expected = {(3, 40, 60), (3, 64, 48), (3, 33, 57), (1, 50, 50), (3, 128, 96), (3, 20, 31), (4, 30, 30)}
    assert found.forms == {Form("encoded", shape): 1 for shape in expected}
    assert survey(str(FORMATS / "set_encoded_lmdb"), decode=True).forms == found.forms
    assert survey(str(FORMATS / "feat_pool1_lmdb")).forms == {Form("floats", (6, 6, 6)): 32}


def test_pictures_with_boxes(tmp_path):
    path = tmp_path / "db"
    with open_db("lmdb", path, "new") as db:
        boxed = caffe_pb2.AnnotatedDatum(datum=datum.from_array(np.ones((3, 4, 5), np.uint8), 2), type="BBOX")
        db.put(b"0", boxed.SerializeToString())
    assert survey(str(path)).forms == {Form("bytes", (3, 4, 5)): 1}
    assert survey(str(path)).labels == {2: 1}


def test_repeated_records(tmp_path):
    records = [(PICTURES[0], 1), (PICTURES[1], 2), (PICTURES[0], 1), (PICTURES[0], 3)]
    records += [(PICTURES[0].reshape(3, 5, 4), 1)]  # the same bytes in another shape are something else
    found = survey(make(tmp_path / "db", records))
    assert (found.repeats, found.contradictions) == (2, 1)
    assert [tuple(repeat) for repeat in found.repeated] == [
        (b"0002", b"0000", 1, 1),
        (b"0003", b"0000", 3, 1),
    ]
    lines = text(found).splitlines()
    assert "repeated    2 records have the values of an earlier one, 1 of them with another label" in lines
    assert "            0003 (label 3) is 0000 (label 1)" in lines


def test_damaged_records(tmp_path):
    jpeg = (FORMATS / "images" / "b.jpg").read_bytes()
    half = caffe_pb2.Datum(data=jpeg[:1200], encoded=True)
    records = [
        (PICTURES[0], 1),
        (b"\xff\xff", 0),
        (caffe_pb2.Datum(channels=1, height=2, width=3, data=b"abc"), 0),
        (caffe_pb2.Datum(data=b"no picture", encoded=True), 0),
        (half, 0),
    ]
    path = make(tmp_path / "db", records)
    found = survey(path, samples=10)
    assert (found.count, found.damages) == (5, 3)
    assert [key for key, _ in found.damaged] == [b"0001", b"0002", b"0003"]
    assert "Incorrect data field size 3" in found.damaged[1][1]
    assert [sample.key for sample in found.samples] == [b"0000"]
    assert "damaged     3 records" in text(found)
    decoded = survey(path, decode=True)
    assert decoded.damages == 4 and "truncated" in decoded.damaged[3][1]


def test_samples_are_drawn_evenly(tmp_path):
    """Over many seeds each of 20 records is among 5 samples about as often."""
    path = make(tmp_path / "db", [(np.full((1, 1, 1), i, np.uint8), i) for i in range(20)])
    counts = np.zeros(20, int)
    for seed in range(200):
        found = survey(path, samples=5, seed=seed).samples
        assert len({sample.key for sample in found}) == 5
        assert all(int(sample.pixels.item()) == sample.label == int(sample.key) for sample in found)
        counts[[sample.label for sample in found]] += 1
    assert counts.min() > 25 and counts.max() < 80  # 50 are expected
    assert [s.key for s in survey(path, samples=5, seed=1).samples] == [
        s.key for s in survey(path, samples=5, seed=1).samples
    ]


def test_text_of_classes(tmp_path):
    path = make(
        tmp_path / "db", [(np.full((1, 1, 1), i, np.uint8), label) for i, label in enumerate([0, 0, 0, 2])]
    )
    lines = text(survey(path), ["cat", "dog", "owl"]).splitlines()
    assert lines[0] == f"{path}, lmdb"
    assert "classes     2, labels 0 to 2" in lines
    assert "            without a record: 1" in lines
    assert [line.split() for line in lines[-2:]] == [
        ["0", "3", "75.0%", "#" * 40, "cat"],
        ["2", "1", "25.0%", "#" * 13, "owl"],
    ]


def test_text_of_many_classes_and_shapes(tmp_path):
    records = [(np.zeros((1, 1, 1 + i % 9), np.uint8), label) for i, label in enumerate([*range(100), 7, 7])]
    lines = text(survey(make(tmp_path / "db", records))).splitlines()
    assert "            and 4 other shapes" in lines
    assert "            the rarest and the most frequent 5:" in lines
    assert lines[-1].split()[:2] == ["7", "3"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nowhere", "nowhere is no database"),
        ("empty", "empty is empty"),
        ("folder", "folder is no database: it has neither a data.mdb"),
        ("truncated", "truncated is truncated"),
    ],
)
def test_no_database(path, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    make("empty", [])
    make("truncated", [(RNG.integers(0, 255, (1, 200, 200)).astype(np.uint8), 0)])
    with open("truncated/data.mdb", "r+b") as file:
        file.truncate(20_000)
    with pytest.raises(FatalError, match=message):
        survey(path)


def test_tiles():
    np.testing.assert_array_equal(as_tile(PICTURES[0]), PICTURES[0, ::-1].transpose(1, 2, 0))
    np.testing.assert_array_equal(as_tile(PICTURES[0], rgb=True), PICTURES[0].transpose(1, 2, 0))
    np.testing.assert_array_equal(as_tile(PICTURES[0, :1]), PICTURES[0, 0])
    np.testing.assert_array_equal(as_tile(PICTURES[0, :2]), np.hstack(PICTURES[0, :2]))
    floats = np.array([[[-1, 0], [1, 3]]], np.float32)
    np.testing.assert_array_equal(as_tile(floats), [[0, 63], [127, 255]])


@pytest.mark.parametrize("form", ["png", "svg"])
def test_contact_sheet(form, tmp_path):
    pytest.importorskip("matplotlib")
    sheet = tmp_path / f"sheet.{form}"
    lines = list(data.describe(str(FORMATS / "set_encoded_lmdb"), sheet=str(sheet)))
    assert lines[1] == f"Saved {sheet}"
    if form == "svg":
        drawn = sheet.read_text()
        assert "00000000_a.png" in drawn and drawn.count("<image") == 7
    else:
        with Image.open(sheet) as picture:
            assert len(picture.convert("RGB").getcolors(1 << 20)) > 100


# The check of labels


@pytest.fixture
def net(tmp_path, monkeypatch):
    """The recorded small net, which gets all recorded test pictures right."""
    for name in ("train_test.prototxt", "small_iter_40.caffemodel"):
        shutil.copy(FORMATS / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    return "train_test.prototxt", "small_iter_40.caffemodel"


def recorded_digits(changes, count=0):
    """The recorded test pictures, over and over, with some labels changed."""
    with open_db("lmdb", FORMATS / "mnist_t10k_lmdb") as db:
        digits = [caffe_pb2.Datum.FromString(value) for _, value in db]
    digits = [caffe_pb2.Datum.FromString(digits[i % 32].SerializeToString()) for i in range(count or 32)]
    truth = {place: digits[place].label for place in changes}
    for place, label in changes.items():
        digits[place].label = label
    return [(digit, 0) for digit in digits], truth


@pytest.mark.parametrize("backend", ["lmdb", "leveldb"])
@pytest.mark.parametrize("count", [32, 64, 150])
def test_wrong_labels_are_found(net, count, backend):
    """Also where whole batches and a rest are needed, and the database is not what the net was trained on."""
    last = count - 1
    digits, truth = recorded_digits({3: 9, last: 5, 20: 0}, count)
    changed = {place for place, label in truth.items() if digits[place][0].label != label}
    result = check_labels(survey(make("own", digits, backend)), *net)
    assert result.count == count
    assert result.right == count - len(changed)
    assert {int(suspect.key) for suspect in result.suspects} == changed
    for suspect in result.suspects:
        digit = digits[int(suspect.key)][0]
        assert suspect.label == digit.label
        assert suspect.predicted == truth[int(suspect.key)]
        assert suspect.confidence > 0.5
        assert np.abs(suspect.pixels.astype(int) - datum.to_array(digit)[0]).max() <= 1
    assert f"labels      the net agrees with {count - len(changed)} of {count} (" in result.text


def test_command(net, tmp_path):
    pytest.importorskip("matplotlib")
    make("own", recorded_digits({3: 9})[0])
    model, weights = net
    options = [f"--model={model}", f"--weights={weights}", "--suspects=s.png", "--sheet=a.svg", "--samples=3"]
    result = run_tool("data", *options, "own", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "Saved a.svg\n" in result.stdout and result.stdout.endswith("Saved s.png and s.csv\n")
    with open("s.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["key"], row["label"]) == ("0003", "9")
    with Image.open("s.png") as picture:
        assert picture.width > 1000
    make("right", recorded_digits({})[0])
    again = run_tool("data", *options[:3], "right", cwd=tmp_path, check=True)
    assert again.stdout.endswith("There is nothing to draw into s.png\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "train_test.prototxt"}, "The check of labels needs both"),
        ({"suspects": "s.png"}, "It takes a net to doubt"),
        ({"sheet": "s.gif"}, "--sheet=s.gif: the name of a picture ends in .png or .svg"),
        ({"labels": "nowhere"}, "Unable to open labels file nowhere"),
        ({"model": "deploy.prototxt", "weights": "small_iter_40.caffemodel"}, "has no layer of type Data"),
        ({"model": "nowhere", "weights": "small_iter_40.caffemodel"}, "nowhere"),
    ],
)
def test_mistakes(net, options, message):
    pytest.importorskip("matplotlib")
    shutil.copy(FORMATS / "deploy.prototxt", ".")
    make("own", recorded_digits({})[0])
    with pytest.raises(FatalError, match=message):
        list(data.describe("own", **options))


def test_labels_and_records_that_a_net_cannot_take(net):
    with pytest.raises(
        FatalError, match=r"own has labels that train_test.prototxt, with 10 classes.*\[10, 12\]"
    ):
        check_labels(survey(make("own", recorded_digits({1: 12, 2: 10})[0])), *net)
    with pytest.raises(FatalError, match="bad has 1 damaged records"):
        check_labels(survey(make("bad", [(b"\xff", 0)])), *net)


def test_usage(tmp_path):
    result = run_tool("data", cwd=tmp_path)
    assert result.returncode == 1 and "usage: data [FLAGS] DB" in result.stderr
