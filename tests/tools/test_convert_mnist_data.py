"""The databases and the log of convert_mnist_data against those that the original wrote."""

from __future__ import annotations

import gzip
import shutil

import pytest

from caffetools.formats.db import open_db
from caffetools.glog import FatalError
from caffetools.tools.convert_mnist_data import convert
from tests.recorded import FORMATS, log_lines, recorded_log

BACKENDS = ["lmdb", "leveldb"]


@pytest.fixture(autouse=True)
def in_folder_with_idx_files(tmp_path, monkeypatch):
    for path in FORMATS.glob("*-ubyte"):
        shutil.copy(path, tmp_path)
    monkeypatch.chdir(tmp_path)


def records(backend, path):
    if backend == "leveldb":
        pytest.importorskip("plyvel")
    with open_db(backend, path) as db:
        return list(db)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("part", "count"), [("train", 64), ("t10k", 32)])
def test_records_and_log_equal_the_originals(part, count, backend, capfd):
    expected = records(backend, FORMATS / f"mnist_{part}_{backend}")
    (_, _, images, labels, db), status, _, err = recorded_log(f"log_convert_mnist_{part}_{backend}")
    assert status == 0
    capfd.readouterr()
    convert(images, labels, db, backend)
    assert [line for line in log_lines(capfd.readouterr().err) if line[1] == " "] == log_lines(err)
    found = records(backend, db)
    assert len(found) == count
    assert found == expected


def test_compressed_files():
    for name in ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"):
        with open(name, "rb") as file, gzip.open(f"{name}.gz", "wb") as packed:
            shutil.copyfileobj(file, packed)
    convert("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz", "db")
    assert records("lmdb", "db") == records("lmdb", FORMATS / "mnist_t10k_lmdb")


def test_labels_in_place_of_images_fail_as_in_the_original(tmp_path):
    (_, _, images, labels, db), status, _, err = recorded_log("log_convert_mnist_bad_magic")
    (line,) = log_lines(err)
    with pytest.raises(FatalError) as caught:
        convert(images, labels, db, "leveldb")
    assert f"F {caught.value}".startswith(line)
    assert caught.value.exit_code == status
    assert not (tmp_path / db).exists()


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        ("train-images-idx3-ubyte", "t10k-labels-idx1-ubyte", r"num_items == num_labels \(64 vs. 32\)"),
        ("train-images-idx3-ubyte", "train-images-idx3-ubyte", "Incorrect label file magic."),
        ("nowhere", "t10k-labels-idx1-ubyte", "Unable to open file nowhere"),
        ("t10k-images-idx3-ubyte", "nowhere", "Unable to open file nowhere"),
    ],
)
def test_files_that_do_not_belong_together(images, labels, message, tmp_path):
    with pytest.raises(FatalError, match=message):
        convert(images, labels, "db")
    assert not (tmp_path / "db").exists()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_database_that_exists_is_kept(backend):
    if backend == "leveldb":
        pytest.importorskip("plyvel")
    convert("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte", "db", backend)
    before = records(backend, "db")
    with pytest.raises(FatalError, match="db"):
        convert("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "db", backend)
    assert records(backend, "db") == before


def test_an_unknown_backend():
    with pytest.raises(FatalError, match="Unknown database backend: hdf5"):
        convert("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte", "db", "hdf5")
