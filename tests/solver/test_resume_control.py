"""With everything on, a run that is interrupted anywhere and resumed is the run in one go, bit for bit."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from caffetools.solver import signals
from tests.solver.small_run import Recorder, lay_out, make_solver

#: Tests in every fifth iteration, of three batches of eight, which do not cover their data; a rate that falls.
EVERYTHING = """
test_iter: 3 max_iter: 60 snapshot: 20 snapshot_keep: 2 snapshot_best: "accuracy" warmup_iter: 30 type: "Adam"
base_lr: 0.01 decoupled_decay: true weight_decay: 0.1 ema_decay: 0.9 early_stop: "loss" early_stop_patience: 9
lr_policy: "plateau" gamma: 0.5 plateau_patience: 2 min_delta: 0.01 average_loss: 7
"""
PLATEAUS = {
    "of a test": 'plateau_output: "loss"',
    "of the loss": "plateau_interval: 7",
    "of the loss, HDF5": "plateau_interval: 7 snapshot_format: HDF5",
    "of a test, weights first": 'plateau_output: "loss" ema_snapshot: false',
    "of a test, weights first, HDF5": 'plateau_output: "loss" ema_snapshot: false snapshot_format: HDF5',
    "tests of the weights": 'plateau_output: "loss" ema_test: false',
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lay_out(tmp_path)
    return tmp_path


def run(settings, resume=None, stop_at=None):
    """Train, or go on; return what was told and the state at the end. stop_at: how often a stop is not asked for."""
    polls = iter(range(10**9))

    def requested():
        return signals.STOP if stop_at is not None and next(polls) == stop_at else signals.NONE

    solver = make_solver(EVERYTHING + settings, requested=requested)
    recorder = Recorder()
    solver.listeners.append(recorder)
    solver.solve(resume)
    solver.close()
    return recorder, solver


whole_run = cache(run)


def assert_same_end(first, second):
    for name in ("iter", "current_step", "smoothed_loss"):
        assert getattr(first, name) == getattr(second, name)
    np.testing.assert_array_equal(first.net.param_data, second.net.param_data)
    np.testing.assert_array_equal(first.average.values, second.average.values)
    assert first.control.get_state() == second.control.get_state()


@pytest.mark.parametrize("settings", PLATEAUS.values(), ids=PLATEAUS)
def test_two_halves_equal_the_whole(settings):
    whole, at_end = run(settings)
    assert at_end.current_step > 0  # the rate has fallen, so that its state mattered
    suffix = ".h5" if "HDF5" in settings else ""
    for start in (20, 40):
        if not Path(f"s_iter_{start}.solverstate{suffix}").exists():
            continue  # the run removed it
        rest, resumed = run(settings, resume=f"s_iter_{start}.solverstate{suffix}")
        for name in ("losses", "rates", "norms"):
            theirs = {it: value for it, value in getattr(whole, name).items() if it >= start}
            assert getattr(rest, name) == theirs
        assert rest.tests == {key: value for key, value in whole.tests.items() if key[0] >= start}
        assert_same_end(resumed, at_end)


@pytest.mark.parametrize("stop_at", [4, 9, 11, 31, 50])
def test_stopped_anywhere(stop_at):
    """Also within a test, which is then done again from where its data were."""
    settings = PLATEAUS["of a test"]
    whole, at_end = whole_run(settings)
    for path in Path().glob("s_*"):
        path.unlink()
    before, stopped = run(settings, stop_at=stop_at)
    assert stopped.iter < 60
    rest, resumed = run(settings, resume=f"s_iter_{stopped.iter}.solverstate")
    assert {**before.losses, **rest.losses} == whole.losses
    assert {**before.tests, **rest.tests} == whole.tests
    assert_same_end(resumed, at_end)


@pytest.mark.parametrize("settings", [PLATEAUS["of a test"], PLATEAUS["of a test, weights first"]])
def test_a_snapshot_asked_for_within_a_test(settings):
    """The net has the averaged weights then; the snapshot holds both all the same."""
    whole, at_end = whole_run(settings)
    polls = iter(range(10**9))
    asked = lambda: signals.SNAPSHOT if next(polls) == 9 else signals.NONE  # noqa: E731
    solver = make_solver(EVERYTHING.replace("max_iter: 60", "max_iter: 7") + settings, requested=asked)
    solver.solve()
    solver.close()
    rest, resumed = run(settings, resume="s_iter_5.solverstate")
    assert rest.losses == {it: loss for it, loss in whole.losses.items() if it >= 5}
    assert rest.tests == {key: value for key, value in whole.tests.items() if key[0] >= 5}
    assert_same_end(resumed, at_end)


def test_the_best_snapshot_can_be_resumed():
    whole, at_end = run("")
    start = json.loads(Path("s_best.resume.json").read_text())["iter"]
    rest, resumed = run("", resume="s_best.solverstate")
    assert rest.tests == {key: value for key, value in whole.tests.items() if key[0] >= start}
    assert rest.losses == {it: loss for it, loss in whole.losses.items() if it >= start}
    assert_same_end(resumed, at_end)


def test_a_run_that_has_stopped_early_stops_again():
    settings = 'base_lr: 1e-20 early_stop_patience: 3 plateau_output: "loss"'
    _, stopped = run_with(settings)
    assert stopped.iter == 15
    rest, again = run_with(settings, resume="s_iter_15.solverstate")
    assert (again.iter, rest.losses) == (15, {})


def run_with(settings, resume=None):
    """As `run`, where settings replace some of those above."""
    words = EVERYTHING
    for replaced in ("base_lr: 0.01", "early_stop_patience: 9", "test_iter: 3"):
        words = words.replace(replaced, "")
    solver = make_solver(words + settings)
    recorder = Recorder()
    solver.listeners.append(recorder)
    solver.solve(resume)
    solver.close()
    return recorder, solver


def test_longer_than_planned():
    """The snapshot at the end is from before the last display and test, which a longer run does not do then."""
    longer, at_end = run_longer(50)
    run_longer(30)
    rest, resumed = run_longer(50, resume="s_iter_30.solverstate")
    assert rest.losses == {it: loss for it, loss in longer.losses.items() if it >= 30}
    np.testing.assert_array_equal(resumed.net.param_data, at_end.net.param_data)


def run_longer(max_iter, resume=None):
    solver = make_solver(f'max_iter: {max_iter} display: 10 early_stop: "loss" early_stop_patience: 50')
    recorder = Recorder()
    solver.listeners.append(recorder)
    solver.solve(resume)
    solver.close()
    return recorder, solver


def test_another_output_begins_anew():
    run_longer(30)
    solver = make_solver('max_iter: 40 early_stop: "accuracy"')
    solver.restore("s_iter_30.solverstate")
    assert solver.control.watched["early_stop"].progress.best is None
    solver.close()


@pytest.mark.parametrize("damage", [{"control": {"early_stop": 3}}, {"control": []}, {"snapshots": 5}])
def test_damaged_state_counts_not_at_all(damage, capfd):
    run_longer(30)
    path = Path("s_iter_30.resume.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **damage}))
    solver = make_solver('early_stop: "loss" early_stop_patience: 50')
    solver.restore("s_iter_30.solverstate")
    solver.close()
    assert "s_iter_30.resume.json cannot be read" in capfd.readouterr().err
    assert solver.control.watched["early_stop"].progress.best is None
