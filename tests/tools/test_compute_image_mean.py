"""compute_image_mean: files and logs against the recorded ones, values against NumPy, and what can go wrong."""

from __future__ import annotations

import io
import shutil

import numpy as np
import pytest
from PIL import Image

from caffetools.formats import binary, blob, datum
from caffetools.formats.db import open_db
from caffetools.glog import FatalError
from caffetools.proto import caffe_pb2
from caffetools.tools.compute_image_mean import compute
from tests.recorded import FORMATS, log_lines, recorded_log, run_tool
from tests.tools.records import datums

RNG = np.random.default_rng(5)


def make(path, arrays, backend="lmdb"):
    """Make a database of arrays, Datum messages or bytes."""
    if backend == "leveldb":
        pytest.importorskip("plyvel")
    with open_db(backend, path, "new") as db:
        for i, record in enumerate(arrays):
            if isinstance(record, np.ndarray):
                record = datum.from_array(record)
            db.put(b"%08d" % i, record if isinstance(record, bytes) else record.SerializeToString())
    return str(path)


@pytest.mark.parametrize("name", ["mnist", "set"])
def test_files_and_logs_as_recorded(name, tmp_path):
    command, status, _, err = recorded_log(f"log_compute_image_mean_{name}")
    database, output = command[2:]
    if database.endswith("leveldb"):
        pytest.importorskip("plyvel")
    shutil.copytree(FORMATS / database, tmp_path / database)
    result = run_tool("compute_image_mean", *command[1:], cwd=tmp_path)
    assert result.returncode == status == 0
    assert log_lines(result.stderr) == log_lines(err)
    assert (tmp_path / output).read_bytes() == (FORMATS / output).read_bytes()


def test_encoded_pictures_of_different_sizes_as_recorded(tmp_path):
    command, status, _, err = recorded_log("log_compute_image_mean_encoded_mixed")
    shutil.copytree(FORMATS / "set_encoded_lmdb", tmp_path / "set_encoded_lmdb")
    result = run_tool("compute_image_mean", *command[1:], "mean.binaryproto", cwd=tmp_path)
    assert result.returncode == status == 134
    mine, theirs = log_lines(result.stderr), log_lines(err)
    assert mine[:-1] == theirs[:-1]
    assert mine[-1].startswith(theirs[-1])
    assert "record 00000001_b.jpg is 3 x 64 x 48, the first one 3 x 40 x 60" in mine[-1]
    assert not (tmp_path / "mean.binaryproto").exists()


def test_encoded_pictures_are_decoded():
    database = FORMATS / "set_encoded_png_lmdb"
    pictures = [Image.open(io.BytesIO(datum.data)).convert("RGB") for datum in datums(database).values()]
    expected = np.mean([np.asarray(picture, float) for picture in pictures], axis=0)[..., ::-1]
    np.testing.assert_allclose(compute(str(database)).transpose(1, 2, 0), expected, rtol=1e-6)


@pytest.mark.parametrize("backend", ["lmdb", "leveldb"])
@pytest.mark.parametrize("kind", ["bytes", "floats"])
def test_values(kind, backend, tmp_path):
    arrays = RNG.integers(0, 256, (50, 3, 4, 5)).astype(np.uint8)
    if kind == "floats":
        arrays = RNG.normal(size=(50, 3, 4, 5)).astype(np.float32)
    mean = compute(make(tmp_path / "db", arrays, backend), str(tmp_path / "mean"), backend)
    np.testing.assert_allclose(mean, arrays.astype(np.float64).mean(axis=0), rtol=1e-7)
    proto = binary.read(str(tmp_path / "mean"), caffe_pb2.BlobProto)
    assert blob.shape_of(proto) == (1, 3, 4, 5)
    np.testing.assert_array_equal(blob.to_array(proto)[0], mean)


def test_sums_keep_their_digits(tmp_path):
    """A float32 sum stands still at 2 ** 24 if ones are added."""
    first = np.full((1, 1, 1), 2.0**24, np.float32)
    arrays = [first, *[np.ones((1, 1, 1), np.float32)] * 999]
    assert compute(make(tmp_path / "db", arrays))[0, 0, 0] == np.float32((2**24 + 999) / 1000)


def test_progress_is_logged_every_10000_records(tmp_path, capfd):
    compute(make(tmp_path / "db", [np.zeros((1, 1, 1), np.uint8)] * 20_000))
    lines = [line for line in log_lines(capfd.readouterr().err) if "Processed" in line]
    assert lines == ["I Processed 10000 files.", "I Processed 20000 files."]


RECORD = np.zeros((1, 2, 3), np.uint8)


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([], "db is empty"),
        (
            [RECORD, np.zeros((1, 2, 2), np.uint8)],
            r"size_in_datum == data_size \(4 vs. 6\) Incorrect data field size 4",
        ),
        ([RECORD, RECORD.reshape(1, 3, 2)], "record 00000001 is 1 x 3 x 2, the first one 1 x 2 x 3"),
        ([RECORD, RECORD.astype(np.float32)], "record 00000001 has float32 values"),
        ([RECORD, b"\xff\xff"], "record 00000001 is damaged, or no Datum"),
        ([b"\xff\xff"], "record 00000000 is damaged, or no Datum"),
        ([caffe_pb2.Datum(data=b"no picture", encoded=True)], "Could not decode datum: .*record 00000000"),
        (
            [caffe_pb2.Datum(channels=1, height=2, width=2, data=b"xy")],
            "Incorrect data field size 2.*record 00000000",
        ),
    ],
)
def test_bad_records(records, message, tmp_path):
    with pytest.raises(FatalError, match=message):
        compute(make(tmp_path / "db", records), str(tmp_path / "mean"))
    assert not (tmp_path / "mean").exists()


def test_no_database():
    with pytest.raises(FatalError, match="nowhere does not exist"):
        compute("nowhere")


def test_a_file_that_cannot_be_written(tmp_path):
    with pytest.raises(FatalError, match="Cannot write .*/no/folder: No such file or directory"):
        compute(make(tmp_path / "db", [RECORD]), str(tmp_path / "no" / "folder"))


@pytest.mark.parametrize("arguments", [(), ("a", "b", "c")])
def test_usage(arguments, tmp_path):
    result = run_tool("compute_image_mean", *arguments, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (1, "")
    assert "compute_image_mean [FLAGS] INPUT_DB [OUTPUT_FILE]" in result.stdout
