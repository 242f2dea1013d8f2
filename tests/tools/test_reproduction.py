"""`--reproduce`: a run repeated from its folder gives the same bits, and what is not the same is named."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from caffetools.glog import FatalError
from caffetools.tools import environment
from caffetools.tools.reproduction import differences, reproduce
from caffetools.tools.train import train
from tests.recorded import run_tool
from tests.solver.small_run import lay_out, solver_param, tick_at_each_look

EFFECTS = {"sigint_effect": "stop", "sighup_effect": "snapshot", "sigterm_effect": "stop"}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lay_out(tmp_path)
    return tmp_path


def run(more="max_iter: 20", **arguments):
    Path("solver.prototxt").write_text(str(solver_param(more)))
    return train("solver.prototxt", metrics="m", **arguments)


def rows(name):
    return [json.loads(line) for line in Path(name, "metrics.jsonl").read_text().splitlines()]


def numbers(name):
    return [(row["kind"], row["iteration"], row.get("loss"), row["outputs"]) for row in rows(name)]


@pytest.mark.parametrize(
    ("more", "arguments"),
    [
        ("max_iter: 20", {}),
        ("max_iter: 20 random_seed: -1", {}),
        ('max_iter: 20 random_seed: -1 type: "Adam" ema_decay: 0.9', {}),
        ("max_iter: 20", {"changes": ["net.layer[conv1].convolution_param.num_output=3", "solver.base_lr=0.1"]}),
        ("max_iter: 100000000", {"settings": {"time_limit": "30s"}}),
        ("max_iter: 20", {"metrics_interval": 3}),
    ],
)
def test_same_bits(more, arguments, capfd, monkeypatch):
    tick_at_each_look(monkeypatch)
    run(more, **arguments)
    Path("solver.prototxt").unlink()
    Path("net.prototxt").unlink()  # all that is needed is in the folder
    snapshots = {path.name: path.stat().st_mtime_ns for path in Path().glob("s_*")}
    assert reproduce("m", **EFFECTS) == 0
    theirs = numbers("m")
    assert [row for row in numbers("m/reproduction_1") if row in theirs] == theirs
    assert {path.name: path.stat().st_mtime_ns for path in Path().glob("s_*")} == snapshots
    steps = len([row for row in rows("m") if row["kind"] == "train"])
    assert f"Reproduced: the losses of {steps} iterations" in capfd.readouterr().err


def test_a_run_that_was_interrupted_and_resumed(capfd):
    run("max_iter: 10 snapshot: 10 random_seed: -1")
    run("max_iter: 20 snapshot: 10 random_seed: -1", snapshot="s_iter_10.solverstate")
    assert [row["iteration"] for row in rows("m") if row["kind"] == "train"] == list(range(20))
    assert reproduce("m", **EFFECTS) == 0


def test_a_run_whose_metrics_start_at_a_snapshot():
    Path("solver.prototxt").write_text(str(solver_param("max_iter: 10 snapshot: 10")))
    train("solver.prototxt")
    run("max_iter: 20 snapshot: 10", snapshot="s_iter_10.solverstate")
    assert reproduce("m", **EFFECTS) == 0
    assert numbers("m/reproduction_1") == numbers("m")


def test_again_into_another_folder():
    run("max_iter: 4")
    for _ in range(2):
        assert reproduce("m", **EFFECTS) == 0
    assert reproduce("m", "elsewhere", **EFFECTS) == 0
    assert numbers("m/reproduction_2") == numbers("elsewhere") == numbers("m")


def test_from_another_working_folder(tmp_path, monkeypatch):
    run("max_iter: 4")
    (tmp_path / "away").mkdir()
    monkeypatch.chdir(tmp_path / "away")
    assert reproduce("../m", **EFFECTS) == 0
    assert os.getcwd() == str(tmp_path)


def test_a_difference_is_named(capfd):
    run("max_iter: 6")
    lines = Path("m/metrics.jsonl").read_text().splitlines(keepends=True)
    (place,) = [i for i, line in enumerate(lines) if '"train", "iteration": 4' in line]
    lines[place] = lines[place].replace('"loss": ', '"loss": 1', 1)
    Path("m/metrics.jsonl").write_text("".join(lines))
    assert reproduce("m", **EFFECTS) == 1
    assert "Not reproduced: 1 of 8 rows differ, the first is iteration 4: " in capfd.readouterr().err


def test_other_data(capfd):
    run("max_iter: 6")
    shutil.rmtree("mnist_train_lmdb")
    shutil.copytree("mnist_t10k_lmdb", "mnist_train_lmdb")
    assert reproduce("m", **EFFECTS) == 1
    assert "the first is iteration 0" in capfd.readouterr().err


def test_other_versions_are_warned_of(capfd):
    run("max_iter: 2")
    record = json.loads(Path("m/run.json").read_text())
    record["starts"][0]["packages"]["numpy"] = "1.0"
    record["starts"][0]["machine"]["processor"] = "Z80"
    Path("m/run.json").write_text(json.dumps(record))
    assert reproduce("m", **EFFECTS) == 0
    log = capfd.readouterr().err
    assert "numpy was 1.0 in the run and is " in log
    assert "The run was on Z80, this is " in log


@pytest.mark.parametrize(
    ("then", "now", "words"),
    [
        ("abc", "abd", "at commit abc in the run and is at abd here"),
        ("abc+", "abc+", "had changes beside commit abc, then and now"),
        ("abc", "abc", None),
        (None, None, None),
    ],
)
def test_other_commits_are_warned_of(then, now, words, monkeypatch):
    monkeypatch.setattr("caffetools.tools.environment.commit", lambda: now)
    said = list(differences({**environment.describe(), "commit": then}))
    assert len(said) == bool(words)
    assert all(words in sentence for sentence in said)


@pytest.mark.parametrize(
    ("name", "words"), [("nothing", "nothing is no folder of `caffe train --metrics`"), ("empty", "has no iterations")]
)
def test_refused(name, words):
    run("max_iter: 2")
    shutil.copytree("m", "empty")
    Path("empty/metrics.jsonl").write_text("")
    with pytest.raises(FatalError, match=words):
        reproduce(name, **EFFECTS)


def test_command():
    run("max_iter: 4")
    result = run_tool("caffe", "train", "--reproduce=m", cwd=Path.cwd())
    assert result.returncode == 0
    assert "Reproduced: the losses of 4 iterations and the outputs of 1 tests are equal, bit for bit" in result.stderr
