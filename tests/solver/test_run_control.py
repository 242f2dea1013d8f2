"""Best and last snapshots, early stop, time limit, plateau and gradient norm, in whole runs and on given numbers."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from caffetools import upgrade
from caffetools.formats import binary
from caffetools.formats import blob as blob_format
from caffetools.glog import FatalError
from caffetools.proto import caffe_pb2
from caffetools.solver import Solver, snapshot
from caffetools.solver.control import RunControl
from tests.solver.small_run import Recorder, lay_out, make_solver, solver_param, tick_at_each_look


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lay_out(tmp_path)
    return tmp_path


def solve(more="", **arguments):
    solver = make_solver(more, **arguments)
    recorder = Recorder()
    solver.listeners.append(recorder)
    solver.solve()
    solver.close()
    return solver, recorder


def files(pattern="s_*"):
    return sorted(path.name for path in Path().glob(pattern))


# Snapshots


@pytest.mark.parametrize(("spec", "better"), [("accuracy", max), ("loss", min), ("max:loss", max)])
def test_best_snapshot(spec, better):
    _, recorder = solve(f'snapshot_best: "{spec}" snapshot_after_train: false')
    name = spec.removeprefix("max:")
    values = {iteration: outputs[name] for (iteration, _), outputs in recorder.tests.items()}
    best = better(values.values())
    first = min(iteration for iteration, value in values.items() if value == best)
    assert files() == ["s_best.caffemodel", "s_best.resume.json", "s_best.solverstate"]
    state = binary.read("s_best.solverstate", caffe_pb2.SolverState)
    assert (state.iter, state.learned_net) == (first, "s_best.caffemodel")


def test_best_weights_are_those_that_were_tested():
    _, recorder = solve('snapshot_best: "accuracy" snapshot_after_train: false snapshot: 5 test_interval: 5')
    iteration = binary.read("s_best.solverstate", caffe_pb2.SolverState).iter
    if iteration:
        assert weights("s_best.caffemodel") == weights(f"s_iter_{iteration}.caffemodel")
    assert recorder.tests[iteration, 0]["accuracy"] == max(t["accuracy"] for t in recorder.tests.values())


def weights(name):
    return [blob_format.to_array(b).tobytes() for layer in upgrade.read_net_binary(name).layer for b in layer.blobs]


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_a_kill_while_the_best_is_replaced(steps, monkeypatch):
    """Wherever it comes, a state that is there belongs to the weights that are there."""
    solver = make_solver('snapshot_best: "loss" ema_decay: 0.5')
    snapshot.write(solver, "s_best")
    solver.step(3)
    made, real = iter(range(1, 100)), os.replace

    def replace(source, target):
        if next(made) == steps:
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        snapshot.write(solver, "s_best")
    solver.close()
    # The weights come first, the state last: it is missing as long as not all is there.
    assert "s_best.caffemodel" in files()
    assert "s_best.solverstate" not in files()
    assert not [name for name in os.listdir() if name.endswith(".tmp")]


def test_last_snapshots_stay_and_the_best_is_not_counted(capfd):
    for name in ("s_iter_1.caffemodel", "s_iter_4.solverstate", "s_iter_35_mine.caffemodel"):
        Path(name).write_bytes(b"another run's")
    solve('snapshot: 5 snapshot_keep: 2 snapshot_best: "loss" max_iter: 22')
    stems = {name.partition(".")[0] for name in files()}
    assert stems == {"s_best", "s_iter_20", "s_iter_22", "s_iter_1", "s_iter_4", "s_iter_35_mine"}
    assert "Removed snapshot s_iter_15 (snapshot_keep: 2)" in capfd.readouterr().err


def test_a_resumed_run_removes_what_the_one_before_wrote():
    solve("snapshot: 5 snapshot_keep: 3 max_iter: 15")
    assert files("*.solverstate") == ["s_iter_10.solverstate", "s_iter_15.solverstate", "s_iter_5.solverstate"]
    solver = make_solver("snapshot: 5 snapshot_keep: 3 max_iter: 25")
    solver.solve("s_iter_15.solverstate")
    solver.close()
    assert files("*.solverstate") == ["s_iter_15.solverstate", "s_iter_20.solverstate", "s_iter_25.solverstate"]


def test_best_needs_a_prefix():
    param = solver_param('snapshot_best: "loss" snapshot_after_train: false')
    param.ClearField("snapshot_prefix")
    with pytest.raises(FatalError, match="snapshot_best needs a snapshot_prefix"):
        Solver(param)


# Early stop and time limit


def test_early_stop(capfd):
    # With a rate of zero nothing improves after the first test: those in iterations 2, 4 and 6 do not.
    solver, recorder = solve('base_lr: 0 test_interval: 2 early_stop: "loss" early_stop_patience: 3')
    assert solver.iter == 6
    assert set(recorder.tests) == {(0, 0), (2, 0), (4, 0), (6, 0)}
    assert "s_iter_6.solverstate" in files()
    log = capfd.readouterr().err
    assert re.search(r"Stopping early: loss has not improved in 3 tests \(best \S+ in iteration 0\)", log)
    assert "Optimization stopped early." in log


def test_no_early_stop_while_it_improves():
    solver, _ = solve('early_stop: "min:loss" early_stop_patience: 40')
    assert solver.iter == 40


def test_time_limit_of_a_run_without_last_snapshot(capfd, monkeypatch):
    tick_at_each_look(monkeypatch)
    solver, _ = solve('time_limit: "12s" snapshot_after_train: false')
    # It looks four times in the test of iteration 0, after each of five steps, and in the test of iteration 5.
    assert solver.iter == 5
    assert files("*.solverstate") == ["s_iter_5.solverstate"]
    assert capfd.readouterr().err.count("The time limit of 12s is reached") == 1


# Plateau


def control(more):
    solver = make_solver(more)
    solver.close()
    return RunControl(solver.param, solver.test_nets)


@pytest.mark.parametrize("patience", [1, 2, 5])
@pytest.mark.parametrize("delta", [0.0, 0.125])
@pytest.mark.parametrize("rises", [True, False])
def test_plateau_of_torch(patience, delta, rises):
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    # PyTorch counts how many are passed over before one more reduces the rate.
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, "max" if rises else "min", 0.5, patience - 1, threshold=delta, threshold_mode="abs", eps=0
    )
    way, name = ("max", "accuracy") if rises else ("min", "loss")
    mine = control(
        f'lr_policy: "plateau" gamma: 0.5 plateau_output: "{way}:{name}" plateau_patience: {patience} '
        f"min_delta: {delta}"
    )
    steps, rates, theirs = 0, [], []
    for i, value in enumerate(np.random.default_rng(1).integers(0, 64, 80) / 64):
        results = [[("accuracy", float(value), 0.0), ("loss", float(value), 1.0)]]
        steps += bool(mine.tested(results, i).reduce)
        rates.append(0.5**steps)
        schedule.step(float(value))
        theirs.append(optimizer.param_groups[0]["lr"])
    assert rates == theirs
    assert steps > 2


def test_plateau_of_the_loss():
    mine = control('lr_policy: "plateau" gamma: 0.5 plateau_interval: 3 plateau_patience: 2')
    losses = [3, 3, 3, 2, 2, 2, 1, 2, 3, 2, 2, 2.5, 1, 1, 1, 1, 1, 1, 1, 1, 1]
    #         mean 3    2        2 (stalls)  2.1: reduce  1           1 (stalls)  1: reduce
    reduced = [i for i, loss in enumerate(losses) if mine.trained(loss, i + 1)]
    assert reduced == [11, 20]


def test_plateau_lowers_the_rate_of_a_run(capfd):
    _, recorder = solve(
        'base_lr: 1e-20 lr_policy: "plateau" gamma: 0.5 plateau_output: "loss" plateau_patience: 2 test_interval: 4 '
        "min_lr: 3e-21 max_iter: 30 snapshot_after_train: false"
    )
    # Tests in iterations 0, 4, 8, ...: the weights stay, so that the second and third after the first are stalls.
    expected = {it: 1e-20 * 0.5 ** min(max(it, 0) // 8, 1) if it < 16 else 3e-21 for it in range(30)}
    assert recorder.rates == pytest.approx(expected, rel=1e-6)
    log = capfd.readouterr().err
    assert re.search(r"Plateau: loss has not improved in 2 tests \(best \S+ in iteration 0\): lr 1e-20 -> 5e-21", log)
    assert log.count("Plateau:") == 2  # at its lowest the rate stays, without a word


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ('lr_policy: "plateau" gamma: 0.5 test_interval: 0', "needs to know when to look"),
        ("plateau_interval: 5", 'belong to lr_policy "plateau", not "fixed"'),
        ('plateau_output: "loss"', 'belong to lr_policy "plateau", not "fixed"'),
        ("early_stop_patience: 0", "early_stop_patience > 0"),
        ("snapshot_keep: -1", "snapshot_keep cannot be negative"),
        ('time_limit: "soon"', "time_limit: 'soon' is no length of time"),
        ('time_limit: "0h"', "time_limit: '0h' is no length of time"),
        ('early_stop: "acuracy"', "did you mean accuracy?"),
    ],
)
def test_refused(settings, words):
    param = solver_param(settings)
    if "test_interval: 0" in settings:
        del param.test_iter[:]
    with pytest.raises(FatalError, match=re.escape(words)):
        Solver(param)


# Gradient norm


def test_gradient_norm_is_logged(capfd):
    solver = make_solver("log_gradient_norm: true display: 2 max_iter: 4 iter_size: 2 snapshot_after_train: false")
    norms = []
    solver.add_callback(lambda: None, lambda: norms.append(np.linalg.norm(solver.net.param_diff.astype(np.float64))))
    recorder = Recorder()
    solver.listeners.append(recorder)
    solver.solve()
    solver.close()
    logged = re.findall(r"Iteration (\d+), gradient norm = (\S+)", capfd.readouterr().err)
    assert [int(iteration) for iteration, _ in logged] == [0, 2]
    assert [float(norm) for _, norm in logged] == pytest.approx(norms[::2], rel=1e-4)
    assert list(recorder.norms.values()) == pytest.approx(norms, rel=1e-6)


def test_side_file_says_where_the_run_is():
    solve('snapshot: 10 snapshot_best: "accuracy" early_stop: "loss" early_stop_patience: 100 max_iter: 20')
    data = json.loads(Path("s_iter_10.resume.json").read_text())
    assert set(data["control"]) == {"snapshot_best", "early_stop"}
    assert data["control"]["early_stop"]["output"] == "loss"
