"""Which snapshot `--snapshot=auto` goes on from: the newest that is whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from caffetools.glog import FatalError
from caffetools.solver import newest
from tests.solver.small_run import lay_out, make_solver


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lay_out(tmp_path)
    return tmp_path


def find(more=""):
    solver = make_solver(more)
    try:
        return newest.newest_whole(solver)
    finally:
        solver.close()


def snapshots(more="", best=False):
    """Leave the snapshots of iterations 4, 8 and 12, and that of 10 as the best."""
    solver = make_solver(f"snapshot: 4 max_iter: 12 test_interval: 100 {more}")
    solver.solve()
    solver.close()
    if best:
        for path in Path().glob("s_iter_12.*"):
            path.rename(path.name.replace("s_iter_12", "s_best"))


def test_none():
    Path("other_iter_5.solverstate").write_bytes(b"")
    Path("s_iter_x.solverstate").write_bytes(b"")
    assert find() == ""


@pytest.mark.parametrize(("more", "suffix"), [("", ""), ("snapshot_format: HDF5", ".h5"), ("ema_decay: 0.5", "")])
def test_newest(more, suffix):
    snapshots(more)
    assert find(more) == f"s_iter_12.solverstate{suffix}"


def test_numbers_not_texts():
    snapshots()
    for path in Path().glob("s_iter_4.*"):
        path.unlink()
    assert find() == "s_iter_12.solverstate"  # "8" sorts behind "12"


def test_best_counts():
    snapshots("ema_decay: 0.5", best=True)
    state = Path("s_best.solverstate").read_bytes().replace(b"s_iter_12.caffemodel", b"s_best.caffemodel\0\0\0")
    assert b"s_best" in state
    assert find("ema_decay: 0.5") == "s_iter_8.solverstate"  # the weights it names are not there
    Path("s_iter_12.caffemodel").write_bytes(Path("s_best.caffemodel").read_bytes())
    assert find("ema_decay: 0.5") == "s_best.solverstate"


def cut(name):
    data = Path(name).read_bytes()
    Path(name).write_bytes(data[: len(data) // 2])


DAMAGES = {
    "state cut": (lambda: cut("s_iter_12.solverstate"), "Failed to parse SolverState"),
    "weights cut": (lambda: cut("s_iter_12.caffemodel"), "s_iter_12.caffemodel"),
    "weights gone": (lambda: Path("s_iter_12.caffemodel").unlink(), "its weights, s_iter_12.caffemodel, are missing"),
    "weights empty": (lambda: Path("s_iter_12.caffemodel").write_bytes(b""), "lacks parameter 0 of layer 'conv1'"),
    "side file cut": (lambda: cut("s_iter_12.resume.json"), "s_iter_12.resume.json cannot be read"),
    "average gone": (lambda: Path("s_iter_12.resume.caffemodel").unlink(), "s_iter_12.resume.caffemodel, are missing"),
    "renamed": (
        lambda: Path("s_iter_12.solverstate").write_bytes(Path("s_iter_4.solverstate").read_bytes()),
        "it is of iteration 4",
    ),
    "side file of another": (
        lambda: Path("s_iter_12.resume.json").write_text(json.dumps({"iter": 4})),
        "s_iter_12.resume.json is of iteration 4",
    ),
}


@pytest.mark.parametrize(("damage", "words"), DAMAGES.values(), ids=DAMAGES)
def test_what_is_not_whole_is_passed_over(damage, words, capfd):
    snapshots("ema_decay: 0.5")
    damage()
    assert find("ema_decay: 0.5") == "s_iter_8.solverstate"
    log = capfd.readouterr().err
    assert "Passing over s_iter_12.solverstate: " in log
    assert words in log


def test_snapshots_of_another_solver_type_are_not_written_over():
    snapshots()
    with pytest.raises(FatalError, match="finds s_iter_12.solverstate, but .* another solver type"):
        find('type: "Adam"')


def test_one_of_another_type_is_passed_over_where_another_one_fits(capfd):
    snapshots()
    state = Path("s_iter_8.solverstate").read_bytes()
    snapshots('type: "Adam"')
    Path("s_iter_8.solverstate").write_bytes(state)
    assert find() == "s_iter_8.solverstate"
    assert "Passing over s_iter_12.solverstate: it is of another solver type" in capfd.readouterr().err


def test_without_a_prefix():
    solver = make_solver("snapshot_after_train: false")
    solver.param.ClearField("snapshot_prefix")
    with pytest.raises(FatalError, match="--snapshot=auto looks for snapshots of the solver's snapshot_prefix"):
        newest.newest_whole(solver)
    solver.close()
