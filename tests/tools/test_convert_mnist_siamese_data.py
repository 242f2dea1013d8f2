"""convert_mnist_siamese_data: pairs of the recorded pictures, and what can go wrong."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from caffetools.glog import FatalError
from caffetools.tools.convert_mnist_siamese_data import convert
from tests.recorded import FORMATS, log_lines, run_tool
from tests.tools.records import datums, records

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


@pytest.fixture(autouse=True)
def in_folder_with_idx_files(tmp_path, monkeypatch):
    for path in FORMATS.glob("*-ubyte"):
        shutil.copy(path, tmp_path)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("backend", ["lmdb", "leveldb"])
def test_pairs(backend):
    if backend == "leveldb":
        pytest.importorskip("plyvel")
    known = {datum.data: datum.label for datum in datums(FORMATS / "mnist_train_lmdb").values()}
    convert(IMAGES, LABELS, "db", backend)
    found = datums("db", backend)
    assert list(found) == [f"{i:08d}" for i in range(64)]
    for datum in found.values():
        assert (datum.channels, datum.height, datum.width) == (2, 28, 28)
        first, second = datum.data[:784], datum.data[784:]
        assert datum.label == (known[first] == known[second])
    assert len({datum.data for datum in found.values()}) > 60


def test_seeds():
    for db, seed in (("a", 1), ("b", 1), ("c", 2), ("d", -1), ("e", -1)):
        convert(IMAGES, LABELS, db, "lmdb", seed)
    a, b, c, d, e = (records(db) for db in "abcde")
    assert a == b
    assert len({tuple(pairs.values()) for pairs in (a, c, d, e)}) == 4


def test_both_pictures_are_drawn_from_all():
    """Over many draws every picture appears in both places."""
    known = [datum.data for datum in datums(FORMATS / "mnist_train_lmdb").values()]
    counts = np.zeros((2, len(known)), int)
    for seed in range(40):
        convert(IMAGES, LABELS, "db", "lmdb", seed, force=True)
        for datum in datums("db").values():
            counts[0, known.index(datum.data[:784])] += 1
            counts[1, known.index(datum.data[784:])] += 1
    assert counts.min() > 10 and counts.max() < 90  # 40 are expected


def test_command(tmp_path):
    pytest.importorskip("plyvel")
    result = run_tool("convert_mnist_siamese_data", "--seed=3", IMAGES, LABELS, "db", cwd=tmp_path)
    assert result.returncode == 0
    assert log_lines(result.stderr) == [
        "I Opened leveldb db",
        "I A total of 64 items.",
        "I Rows: 28 Cols: 28",
    ]
    convert(IMAGES, LABELS, "same", "lmdb", 3)
    assert records("db", "leveldb") == records("same")
    again = run_tool("convert_mnist_siamese_data", IMAGES, LABELS, "db", cwd=tmp_path)
    assert again.returncode == 134
    assert "Failed to open leveldb db" in again.stderr and "--force" in again.stderr


def test_usage(tmp_path):
    result = run_tool("convert_mnist_siamese_data", "one", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert "[FLAGS] IMAGE_FILE LABEL_FILE DB_NAME" in result.stdout


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES, "t10k-labels-idx1-ubyte", r"num_items == num_labels \(64 vs. 32\)"),
        (LABELS, LABELS, "Incorrect image file magic."),
        ("nowhere", LABELS, "Unable to open file nowhere"),
    ],
)
def test_files_that_do_not_belong_together(images, labels, message, tmp_path):
    with pytest.raises(FatalError, match=message):
        convert(images, labels, "db")
    assert not list(tmp_path.glob("db*"))
