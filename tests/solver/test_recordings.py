"""Six iterations of each solver against what the original computed, and the original's own snapshots taken over."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from google.protobuf import text_format

from caffetools import upgrade
from caffetools.proto import caffe_pb2
from caffetools.solver import Solver
from tests.recorded import GOLDEN

CASES = sorted(path.stem for path in (GOLDEN / "solvers").glob("*.npz"))
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture
def recording(request, tmp_path, monkeypatch):
    """Lay out the recorded solver, net and data in an empty folder and return the recording."""
    monkeypatch.chdir(tmp_path)
    data = np.load(GOLDEN / "solvers" / f"{request.param}.npz")
    Path("solver.prototxt").write_text(str(data["solver"]))
    Path("net.prototxt").write_text(str(data["net"]))
    with h5py.File("d.h5", "w") as file:
        file["x"], file["label"] = data["x"], data["label"]
    Path("src.txt").write_text("d.h5\n")
    return data


def make_solver() -> Solver:
    return Solver(upgrade.read_solver("solver.prototxt"))


def recorded_params(data, iteration):
    prefix = f"param/{iteration}/"
    return {key.removeprefix(prefix): data[key] for key in data.files if key.startswith(prefix)}


def set_params(solver, params):
    for key, value in params.items():
        layer, index = key.rsplit("/", 1)
        solver.net.layer_by_name[layer].blobs[int(index)].data[...] = value


def check_params(solver, params, **tolerance):
    assert params
    for key, value in params.items():
        layer, index = key.rsplit("/", 1)
        mine = solver.net.layer_by_name[layer].blobs[int(index)].data
        np.testing.assert_allclose(mine, value, err_msg=key, **tolerance)


def test_there_are_recordings():
    assert len(CASES) == 13


@pytest.mark.parametrize("recording", CASES, indirect=True)
def test_six_iterations(recording):
    solver = make_solver()
    set_params(solver, recorded_params(recording, 0))
    for iteration in range(1, 7):
        solver.step(1)
        # What was recorded is the blob, after the last of `iter_size` passes.
        loss = float(solver.net.blobs["loss"].data)
        assert loss == pytest.approx(float(recording[f"loss/{iteration}"]), rel=1e-4)
        check_params(solver, recorded_params(recording, iteration), **CLOSE)


@pytest.mark.parametrize("recording", CASES, indirect=True)
def test_original_snapshot_is_resumed(recording):
    state = caffe_pb2.SolverState.FromString(bytes(recording["file/solverstate"]))
    Path(state.learned_net).write_bytes(bytes(recording["file/caffemodel"]))
    Path("snap_iter_3.solverstate").write_bytes(bytes(recording["file/solverstate"]))
    solver = make_solver()
    solver.step(3)  # the data cursor is where the original's was; weights and history come from the file
    solver.net.param_data.fill(0)
    solver.restore("snap_iter_3.solverstate")
    assert solver.iter == 3
    check_params(solver, recorded_params(recording, 3), rtol=0, atol=0)
    for iteration in range(4, 7):
        solver.step(1)
        check_params(solver, recorded_params(recording, iteration), **CLOSE)


@pytest.mark.parametrize("recording", CASES, indirect=True)
def test_our_snapshot_has_the_same_fields(recording):
    solver = make_solver()
    set_params(solver, recorded_params(recording, 0))
    solver.step(3)
    solver.snapshot()
    for suffix, message in (("caffemodel", caffe_pb2.NetParameter), ("solverstate", caffe_pb2.SolverState)):
        theirs = message.FromString(bytes(recording[f"file/{suffix}"]))
        mine = message.FromString(Path(f"snap_iter_3.{suffix}").read_bytes())
        for blobs, other in zip(all_blobs(mine), all_blobs(theirs), strict=True):
            np.testing.assert_allclose(blobs.data, other.data, **CLOSE)
            del blobs.data[:], other.data[:]
        assert text_format.MessageToString(mine) == text_format.MessageToString(theirs)


def all_blobs(message):
    if isinstance(message, caffe_pb2.SolverState):
        return list(message.history)
    return [blob for layer in message.layer for blob in layer.blobs]
