"""extract_features: databases and log against the recorded ones, files against databases, and what can go wrong."""

from __future__ import annotations

import shutil

import h5py
import numpy as np
import pytest

from caffetools.glog import FatalError
from caffetools.tools.extract_features import extract
from tests.recorded import FORMATS, log_lines, recorded_log, run_tool
from tests.tools.records import datums, pixels, records

WEIGHTS, NET = "small_iter_40.caffemodel", "features.prototxt"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    for name in (WEIGHTS, NET):
        shutil.copy(FORMATS / name, tmp_path)
    shutil.copytree(FORMATS / "mnist_t10k_lmdb", tmp_path / "mnist_t10k_lmdb")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def assert_as_recorded(path, recorded, backend="lmdb"):
    mine, theirs = datums(path, backend), datums(FORMATS / recorded)
    assert list(mine) == list(theirs)
    for key, datum in mine.items():
        expected = theirs[key]
        assert datum.ListFields()[:3] == expected.ListFields()[:3]  # channels, height, width
        assert {field.name for field, _ in datum.ListFields()} == {
            field.name for field, _ in expected.ListFields()
        }
        np.testing.assert_allclose(pixels(datum), pixels(expected), rtol=1e-4, atol=1e-5, err_msg=key)


def test_databases_and_log_as_recorded(folder):
    command, status, _, err = recorded_log("log_extract_features")
    result = run_tool("extract_features", "--logtostderr", *command[1:], cwd=folder)
    assert result.returncode == status == 0
    assert log_lines(result.stderr) == log_lines(err)
    for name in ("feat_pool1_lmdb", "feat_ip1_lmdb"):
        assert_as_recorded(folder / name, name)
        sizes = [[len(value) for value in records(path).values()] for path in (folder / name, FORMATS / name)]
        assert sizes[0] == sizes[1]  # floats are stored one by one, not packed


def test_leveldb(folder):
    pytest.importorskip("plyvel")
    extract(WEIGHTS, NET, ["pool1", "ip1"], ["a", "b"], 4, "leveldb")
    assert_as_recorded("a", "feat_pool1_lmdb", "leveldb")
    assert_as_recorded("b", "feat_ip1_lmdb", "leveldb")


def test_arrays(folder):
    extract(WEIGHTS, NET, ["pool1", "ip1", "label"], [], 4, npz="f.npz", hdf5="f.h5")
    with np.load("f.npz") as npz, h5py.File("f.h5") as hdf5:
        assert set(npz) == set(hdf5) == {"pool1", "ip1", "label"}
        for name in npz:
            np.testing.assert_array_equal(npz[name], hdf5[name][:])
            assert npz[name].dtype == hdf5[name].dtype == np.float32
        for name in ("pool1", "ip1"):
            recorded = [pixels(datum) for datum in datums(FORMATS / f"feat_{name}_lmdb").values()]
            expected = np.reshape(recorded, npz[name].shape)
            np.testing.assert_allclose(npz[name], expected, rtol=1e-4, atol=1e-5)
        labels = [datum.label for datum in datums(FORMATS / "mnist_t10k_lmdb").values()]
        np.testing.assert_array_equal(npz["label"], labels)


def test_arrays_from_the_command_line(folder):
    run_tool("extract_features", "--npz=f.npz", WEIGHTS, NET, "ip1", "2", "CPU", cwd=folder, check=True)
    with np.load("f.npz") as npz:
        assert npz["ip1"].shape == (16, 10)
    run_tool(
        "extract_features", "--hdf5=f.h5", WEIGHTS, NET, "ip1", "db", "2", "lmdb", cwd=folder, check=True
    )
    with h5py.File("f.h5") as hdf5:
        assert hdf5["ip1"].shape == (16, 10)
    assert len(records("db")) == 16


def test_the_database_is_read_again_from_the_start(folder):
    extract(WEIGHTS, NET, ["ip1"], ["db"], 5)
    found = list(records("db").values())
    assert len(found) == 40
    assert found[32:] == found[:8]


def test_progress_is_logged_every_1000_items(folder, capfd):
    (folder / NET).write_text((FORMATS / NET).read_text().replace("batch_size: 8", "batch_size: 700"))
    extract(WEIGHTS, NET, ["ip1"], [], 3, npz="f.npz")
    lines = [line for line in log_lines(capfd.readouterr().err) if "query images" in line]
    assert lines == [
        f"E Extracted features of {n} query images for feature blob ip1" for n in (1000, 2000, 2100)
    ]


def test_only_progress_is_seen_as_in_the_original(folder):
    result = run_tool("extract_features", WEIGHTS, NET, "ip1", "db", "1", "lmdb", cwd=folder, check=True)
    assert log_lines(result.stderr) == [
        "E Using CPU",
        "E Extracting Features",
        "E Extracted features of 8 query images for feature blob ip1",
        "E Successfully extracted the features!",
    ]


def test_force(folder):
    extract(WEIGHTS, NET, ["ip1"], ["db"], 1)
    before = records("db")
    with pytest.raises(FatalError, match="mkdir db failed .*--force"):
        extract(WEIGHTS, NET, ["ip1"], ["db"], 2)
    assert records("db") == before
    extract(WEIGHTS, NET, ["ip1"], ["db"], 2, force=True)
    assert len(records("db")) == 16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"blobs": ["ip1", "pool1"]},
            r"num_features == dataset_names.size\(\) \(2 vs. 1\) the number of blob names and",
        ),
        (
            {"blobs": ["fc7"]},
            r"Unknown feature blob name fc7 in the network features.prototxt \(it has: data, label",
        ),
        ({"backend": "hdf5"}, "Unknown database backend: hdf5"),
        ({"weights": "nowhere"}, "nowhere"),
        ({"model": "nowhere"}, "nowhere"),
        ({"npz": "no/folder.npz"}, "Cannot write no/folder.npz"),
        ({"hdf5": "no/folder.h5"}, "no/.*folder.h5"),
        ({"gpu": "0"}, "--gpu=0 cannot be used"),
    ],
)
def test_mistakes(arguments, message, folder):
    defaults = {"weights": WEIGHTS, "model": NET, "blobs": ["ip1"], "databases": ["db"], "batches": 1}
    before = sorted(folder.iterdir())
    with pytest.raises(FatalError, match=message):
        extract(**(defaults | arguments))
    assert sorted(folder.iterdir()) == before


def test_a_blob_of_five_axes_goes_into_files_only(folder):
    (folder / NET).write_text(
        (FORMATS / NET).read_text() + 'layer { name: "r" type: "Reshape" bottom: "pool1" top: "five"'
        " reshape_param { shape { dim: 0 dim: 2 dim: 3 dim: 6 dim: 6 } } }"
    )
    with pytest.raises(FatalError, match="Cannot store blob five of 5 axes"):
        extract(WEIGHTS, NET, ["five"], ["db"], 1)
    extract(WEIGHTS, NET, ["five"], [], 1, npz="f.npz")
    with np.load("f.npz") as npz:
        assert npz["five"].shape == (8, 2, 3, 6, 6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "usage: "),
        ((WEIGHTS, NET, "ip1", "db", "1"), "usage: "),
        (("--npz=x", WEIGHTS, NET, "ip1"), "usage: "),
        ((WEIGHTS, NET, "ip1", "db", "many", "lmdb"), "whole number above 0, not 'many'"),
        ((WEIGHTS, NET, "ip1", "db", "0", "lmdb"), "whole number above 0, not '0'"),
        ((WEIGHTS, NET, "ip1", "db", "1", "lmdb", "gpu"), "CPU or GPU, not 'gpu'"),
        ((WEIGHTS, NET, "ip1", "db", "1", "lmdb", "GPU", "3"), "--gpu=3 cannot be used"),
    ],
)
def test_wrong_arguments(arguments, message, folder):
    result = run_tool("extract_features", *arguments, cwd=folder)
    assert result.returncode == (1 if "usage" in message else 134)
    assert message in result.stderr
