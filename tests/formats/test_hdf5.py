"""Weights and states in HDF5: the recorded files are read, and written again object for object."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from caffetools.formats import hdf5
from caffetools.glog import FatalError

from .conftest import FORMATS

h5py = pytest.importorskip("h5py")

MODEL = FORMATS / "small_h5_iter_20.caffemodel.h5"
STATE = FORMATS / "small_h5_iter_20.solverstate.h5"


def tree(path):
    """Everything in a file: groups, and of datasets type on disk, shape, layout, attributes and bytes."""
    found = {}

    def visit(name, item):
        found[name] = dict(item.attrs)
        if isinstance(item, h5py.Dataset):
            kind = item.id.get_type()
            detail = kind.get_strpad() if isinstance(kind, h5py.h5t.TypeStringID) else kind.get_order()
            layout = item.id.get_create_plist().get_layout()
            found[name] |= {"type": (kind.get_class(), kind.get_size(), detail), "layout": layout}
            found[name] |= {"shape": item.shape, "bytes": item[()].tobytes()}

    with h5py.File(path) as file:
        file.visititems(visit)
    return found


def test_recorded_weights(tmp_path):
    layers = hdf5.read_net(MODEL)
    assert {name: sorted(blobs) for name, blobs in layers.items()} == {
        "conv1": [0, 1], "ip1": [0, 1], "loss": [], "mnist": [], "pool1": [], "relu1": [],
    }  # fmt: skip
    with h5py.File(MODEL) as file:
        np.testing.assert_array_equal(layers["ip1"][0], file["data/ip1/0"][()])
    assert layers["ip1"][0].dtype == np.float32
    hdf5.write_net(tmp_path / "again.h5", layers)
    assert tree(tmp_path / "again.h5") == tree(MODEL)


def test_recorded_state(tmp_path):
    state = hdf5.read_state(STATE)
    assert (state.iter, state.learned_net, state.current_step) == (20, MODEL.name, 0)
    assert [array.shape for array in state.history] == [(6, 1, 5, 5), (6,), (10, 216), (10,)]
    hdf5.write_state(tmp_path / "again.h5", state.iter, state.learned_net, state.current_step, state.history)
    assert tree(tmp_path / "again.h5") == tree(STATE)


def test_gradients(tmp_path):
    data, diff = {"a": {0: np.float32([1, 2])}}, {"a": {0: np.float32([3, 4])}}
    hdf5.write_net(tmp_path / "f.h5", data, diff)
    with h5py.File(tmp_path / "f.h5") as file:
        np.testing.assert_array_equal(file["data/a/0"], [1, 2])
        np.testing.assert_array_equal(file["diff/a/0"], [3, 4])
    assert hdf5.read_net(tmp_path / "f.h5").keys() == {"a"}


def test_slashes_in_names_open_groups(tmp_path):
    """Also where a layer's name is the beginning of another's."""
    layers = {
        name: {0: np.full(3, number, np.float32)}
        for number, name in enumerate(["inception_3a/1x1", "inception_3a/3x3/reduce", "inception_3a", "conv"])
    } | {"inception_3a/relu": {}}
    hdf5.write_net(tmp_path / "f.h5", layers)
    with h5py.File(tmp_path / "f.h5") as file:
        np.testing.assert_array_equal(file["data"]["inception_3a"]["1x1"]["0"], [0, 0, 0])
    found = hdf5.read_net(tmp_path / "f.h5")
    assert found.keys() == layers.keys()
    for name, blobs in layers.items():
        assert found[name].keys() == blobs.keys()
        for index, array in blobs.items():
            np.testing.assert_array_equal(found[name][index], array)


def test_shared_blobs_are_left_out_and_order_is_by_number(tmp_path):
    layers = {"a": {1: np.float32([1])}, "b": {index: np.float32([index]) for index in range(12)}}
    hdf5.write_net(tmp_path / "f.h5", layers)
    found = hdf5.read_net(tmp_path / "f.h5")
    assert list(found["a"]) == [1]
    assert list(found["b"]) == list(range(12))


def test_history_is_read_in_order(tmp_path):
    hdf5.write_state(tmp_path / "f.h5", 7, "päth/x.caffemodel.h5", 2, [np.float32([i]) for i in range(12)])
    state = hdf5.read_state(tmp_path / "f.h5")
    assert (state.iter, state.learned_net, state.current_step) == (7, "päth/x.caffemodel.h5", 2)
    assert [array.item() for array in state.history] == list(range(12))


def test_doubles_and_files_of_other_writers(tmp_path):
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["data/a/0"] = np.float64([0.1])
        file["iter"], file["learned_net"], file["history/0"] = 5, "x", np.float64([0.1])
    assert hdf5.read_net(tmp_path / "f.h5")["a"][0] == np.float32(0.1)
    state = hdf5.read_state(tmp_path / "f.h5")
    assert (state.iter, state.learned_net, state.current_step) == (5, "x", 0)
    assert state.history[0].dtype == np.float32


@pytest.mark.parametrize(
    ("reader", "path", "message"),
    [
        (hdf5.read_net, STATE, "holds no weights: it has no group 'data'; it is a solver state"),
        (hdf5.read_state, MODEL, "holds no solver state: it has no 'iter'; it is a file of weights"),
        (hdf5.read_net, FORMATS / "rows.h5", "holds no weights, or is damaged: "),
        (hdf5.read_net, FORMATS / "small_iter_20.caffemodel", "Couldn't open .*file signature not found"),
    ],
)
def test_other_files(reader, path, message):
    with pytest.raises(FatalError, match=message):
        reader(path)


@pytest.mark.parametrize(("reader", "what"), [(hdf5.read_net, "weights"), (hdf5.read_state, "solver state")])
def test_missing_file(reader, what):
    with pytest.raises(FatalError) as error:
        reader("nope.h5")
    expected = f"Couldn't open nope.h5 to read {what}. (No such file or directory)"
    assert str(error.value) == f"Check failed: file_hid >= 0 (-1 vs. 0) {expected}"


def test_damaged_file(tmp_path):
    data = MODEL.read_bytes()
    (tmp_path / "cut.h5").write_bytes(data[:9000])
    with pytest.raises(FatalError, match="truncated file"):
        hdf5.read_net(tmp_path / "cut.h5")
    (tmp_path / "zeros.h5").write_bytes(data[:2000] + bytes(3000) + data[5000:])
    with pytest.raises(FatalError, match="zeros.h5 holds no weights, or is damaged: "):
        hdf5.read_net(tmp_path / "zeros.h5")


@pytest.mark.skipif(os.name == "nt", reason="needs a limit for the size of files")
def test_full_disk(tmp_path):
    """The system refuses to let a file grow, as it does on a full disk: the earlier file stays."""
    path = tmp_path / "f.h5"
    path.write_bytes(MODEL.read_bytes())
    code = f"""
import resource, signal, sys
import numpy as np
from caffetools.formats import hdf5
from caffetools.glog import FatalError

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    hdf5.write_net({str(path)!r}, {{"a": {{0: np.ones(100_000, np.float32)}}}})
except FatalError as error:
    sys.stdout.write(str(error))
"""
    root = FORMATS.parents[2]
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60,
        env={**os.environ, "PYTHONPATH": str(root)},
    )  # fmt: skip
    assert run.stdout.startswith(f"Cannot write {path}: ")
    assert "File too large" in run.stdout
    assert tree(path) == tree(MODEL)
    assert os.listdir(tmp_path) == ["f.h5"]
