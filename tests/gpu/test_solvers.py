"""The recorded runs of the original's solvers on the GPU."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from caffetools import upgrade
from caffetools.glog import FatalError
from caffetools.proto import caffe_pb2
from caffetools.solver import Solver
from tests.recorded import GOLDEN
from tests.solver.test_recordings import CASES, recorded_params, set_params

CLOSE = {"rtol": 1e-3, "atol": 1e-5}


@pytest.fixture
def recording(request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = np.load(GOLDEN / "solvers" / f"{request.param}.npz")
    Path("solver.prototxt").write_text(str(data["solver"]))
    Path("net.prototxt").write_text(str(data["net"]))
    with h5py.File("d.h5", "w") as file:
        file["x"], file["label"] = data["x"], data["label"]
    Path("src.txt").write_text("d.h5\n")
    return data


def make_solver(engine, **fields) -> Solver:
    param = upgrade.read_solver("solver.prototxt")
    for name, value in fields.items():
        setattr(param, name, value)
    return Solver(param, engine=engine)


def check_params(solver, params, **tolerance):
    assert params
    for key, value in params.items():
        layer, index = key.rsplit("/", 1)
        mine = solver.net.layer_by_name[layer].blobs[int(index)].cpu_data
        np.testing.assert_allclose(mine, value, err_msg=key, **tolerance)


@pytest.mark.parametrize("recording", CASES, indirect=True)
def test_six_iterations(recording, engine):
    solver = make_solver(engine)
    set_params(solver, recorded_params(recording, 0))
    for iteration in range(1, 7):
        solver.step(1)
        loss = float(solver.net.blobs["loss"].cpu_data)
        assert loss == pytest.approx(float(recording[f"loss/{iteration}"]), rel=1e-3)
        check_params(solver, recorded_params(recording, iteration), **CLOSE)


@pytest.mark.parametrize("recording", CASES, indirect=True)
def test_original_snapshot_is_resumed(recording, engine):
    state = caffe_pb2.SolverState.FromString(bytes(recording["file/solverstate"]))
    Path(state.learned_net).write_bytes(bytes(recording["file/caffemodel"]))
    Path("snap_iter_3.solverstate").write_bytes(bytes(recording["file/solverstate"]))
    solver = make_solver(engine)
    solver.step(3)
    solver.net.param_data.fill(0)
    solver.restore("snap_iter_3.solverstate")
    check_params(solver, recorded_params(recording, 3), rtol=0, atol=0)
    for iteration in range(4, 7):
        solver.step(1)
        check_params(solver, recorded_params(recording, iteration), **CLOSE)


@pytest.mark.parametrize("recording", ["adam"], indirect=True)
def test_snapshot_holds_the_history(recording, engine):
    solver = make_solver(engine)
    set_params(solver, recorded_params(recording, 0))
    solver.step(3)
    solver.snapshot()
    mine = caffe_pb2.SolverState.FromString(Path("snap_iter_3.solverstate").read_bytes())
    theirs = caffe_pb2.SolverState.FromString(bytes(recording["file/solverstate"]))
    for history, other in zip(mine.history, theirs.history, strict=True):
        np.testing.assert_allclose(history.data, other.data, **CLOSE)


@pytest.mark.parametrize("recording", ["sgd_clip"], indirect=True)
def test_clipping_is_logged(recording, engine, capfd):
    solver = make_solver(engine, log_gradient_norm=True, display=1)
    set_params(solver, recorded_params(recording, 0))
    solver.step(2)
    assert capfd.readouterr().err.count("Gradient clipping: scaling down gradients (L2 norm") == 2


@pytest.mark.parametrize("recording", ["sgd"], indirect=True)
def test_decoupled_decay_equals_the_cpu(recording, engine):
    runs = [make_solver(where, decoupled_decay=True, weight_decay=0.1, type="Adam") for where in (None, engine)]
    for solver in runs:
        set_params(solver, recorded_params(recording, 0))
        solver.step(4)
    np.testing.assert_allclose(runs[1].net.flat_data.read_host(), runs[0].net.param_data, **CLOSE)


@pytest.mark.parametrize("recording", ["sgd"], indirect=True)
def test_nan_is_refused_with_its_iteration(recording, engine):
    solver = make_solver(engine)
    set_params(solver, recorded_params(recording, 0))
    solver.step(1)
    solver.net.params[0].data[...] = np.nan
    with pytest.raises(FatalError, match="Iteration 1: the loss is nan"):
        solver.step(6)
