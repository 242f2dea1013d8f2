"""convert_cifar_data on batches that are made for the test, with the layout of the real ones."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from caffetools.formats import binary, blob
from caffetools.glog import FatalError
from caffetools.proto import caffe_pb2
from caffetools.tools.convert_cifar_data import convert
from tests.recorded import log_lines, run_tool
from tests.tools.records import datums, records

ROOT = Path(__file__).parents[2]
NAMES = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]


def make_batches(folder, count=20):
    """Write six batches; return labels and pictures (red, green, blue) of all in order."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 10, 6 * count).astype(np.uint8)
    pictures = rng.integers(0, 256, (6 * count, 3, 32, 32)).astype(np.uint8)
    rows = np.concatenate([labels[:, np.newaxis], pictures.reshape(len(labels), -1)], axis=1)
    for name, batch in zip(NAMES, np.split(rows, 6), strict=True):
        (folder / name).write_bytes(batch.tobytes())
    return labels, pictures


@pytest.mark.parametrize("backend", ["lmdb", "leveldb"])
def test_records(backend, tmp_path):
    if backend == "leveldb":
        pytest.importorskip("plyvel")
    labels, pictures = make_batches(tmp_path)
    (tmp_path / "out").mkdir()
    convert(str(tmp_path), str(tmp_path / "out"), backend)
    found = [
        list(datums(tmp_path / "out" / f"cifar10_{part}_{backend}", backend).items())
        for part in ("train", "test")
    ]
    assert [len(part) for part in found] == [100, 20]
    assert [key for part in found for key, _ in part] == [f"{i:05d}" for i in (*range(100), *range(20))]
    for (_, datum), label, picture in zip(found[0] + found[1], labels, pictures, strict=True):
        assert (datum.channels, datum.height, datum.width, datum.label) == (3, 32, 32, label)
        assert datum.data == picture.tobytes()
        assert not datum.HasField("encoded")


def test_log(tmp_path):
    make_batches(tmp_path)
    result = run_tool("convert_cifar_data", ".", ".", "lmdb", cwd=tmp_path)
    assert result.returncode == 0
    assert log_lines(result.stderr) == [
        "I Opened lmdb ./cifar10_train_lmdb",
        "I Writing Training data",
        *[f"I Training Batch {i}" for i in range(1, 6)],
        "I Writing Testing data",
        "I Opened lmdb ./cifar10_test_lmdb",
    ]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda path: path.unlink(),
            r"Check failed: data_file Unable to open train file #3 .*data_batch_3.bin: No such",
        ),
        (
            lambda path: path.write_bytes(path.read_bytes()[:-1]),
            "data_batch_3.bin is truncated, or no batch of CIFAR-10",
        ),
        (lambda path: path.write_bytes(b""), "data_batch_3.bin is truncated"),
        (lambda path: path.write_bytes(bytes([10]) + path.read_bytes()[1:]), "record 0 has the label 10"),
    ],
)
def test_bad_batches(damage, message, tmp_path):
    make_batches(tmp_path)
    damage(tmp_path / "data_batch_3.bin")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(FatalError, match=message):
        convert(str(tmp_path), str(tmp_path), "lmdb")
    assert sorted(tmp_path.iterdir()) == before


def test_no_test_batch(tmp_path):
    make_batches(tmp_path)
    (tmp_path / "test_batch.bin").unlink()
    with pytest.raises(FatalError, match="Unable to open test file."):
        convert(str(tmp_path), str(tmp_path), "lmdb")
    assert not list(tmp_path.glob("cifar10*"))


def test_existing_databases(tmp_path):
    make_batches(tmp_path)
    convert(str(tmp_path), str(tmp_path), "lmdb")
    before = records(tmp_path / "cifar10_train_lmdb")
    make_batches(tmp_path, 3)
    with pytest.raises(FatalError, match="--force"):
        convert(str(tmp_path), str(tmp_path), "lmdb")
    assert records(tmp_path / "cifar10_train_lmdb") == before
    convert(str(tmp_path), str(tmp_path), "lmdb", force=True)
    assert len(records(tmp_path / "cifar10_train_lmdb")) == 15


def test_usage(tmp_path):
    result = run_tool("convert_cifar_data", "one", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert "INPUT_FOLDER OUTPUT_FOLDER lmdb|leveldb" in result.stdout


@pytest.fixture
def checkout(tmp_path):
    """A folder with what create_cifar10.sh needs of the checkout."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / "data" / "cifar10").mkdir(parents=True)
    shutil.copy(ROOT / "scripts" / "create_cifar10.sh", tmp_path / "scripts")
    (tmp_path / "bin").symlink_to(ROOT / "bin")
    return tmp_path


def create(checkout):
    env = {"PATH": os.environ["PATH"], "PYTHON": sys.executable, "GLOG_logtostderr": "1"}
    command = ["sh", checkout / "scripts" / "create_cifar10.sh"]
    return subprocess.run(command, env=env, cwd="/", capture_output=True, text=True, timeout=120)


def test_script(checkout):
    _, pictures = make_batches(checkout / "data" / "cifar10")
    for _ in range(2):  # the second time replaces what is there
        result = create(checkout)
        assert result.returncode == 0, result.stderr
    data = checkout / "data" / "cifar10"
    mean = blob.to_array(binary.read(data / "mean.binaryproto", caffe_pb2.BlobProto))
    np.testing.assert_allclose(mean[0], pictures[:100].mean(axis=0), rtol=1e-6)
    assert len(records(data / "cifar10_test_lmdb")) == 20


def test_script_without_batches(checkout):
    result = create(checkout)
    assert result.returncode == 1
    assert "data_batch_1.bin is not there: run data/cifar10/get_cifar10.sh first" in result.stderr


@pytest.mark.slow
def test_training_on_the_databases(checkout):
    """CIFAR-10 quick as the Makefile trains it, for two iterations."""
    make_batches(checkout / "data" / "cifar10")
    assert create(checkout).returncode == 0
    for name in ("solver", "train_test"):
        path = ROOT / "models" / "cifar10_quick" / f"cifar10_quick_{name}.prototxt"
        folder = checkout / "models" / "cifar10_quick"
        folder.mkdir(parents=True, exist_ok=True)
        text = (
            path.read_text()
            .replace("max_iter: 4000", "max_iter: 2")
            .replace("test_iter: 100", "test_iter: 1")
        )
        (folder / path.name).write_text(text)
    solver = "models/cifar10_quick/cifar10_quick_solver.prototxt"
    result = run_tool("caffe", "train", f"--solver={solver}", cwd=checkout)
    assert result.returncode == 0, result.stderr
    assert (checkout / "models" / "cifar10_quick" / "cifar10_quick_iter_2.solverstate.h5").exists()
