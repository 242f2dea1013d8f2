"""The commands of docs/run_control.md, as they stand there."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.recorded import run_tool
from tests.solver.small_run import lay_out, solver_param

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "run_control.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with what the document takes for granted."""
    folder = tmp_path_factory.mktemp("run_control")
    lay_out(folder)
    more = 'lr_policy: "multistep" gamma: 0.5 stepvalue: 5 max_iter: 10 display: 5'
    (folder / "solver.prototxt").write_text(str(solver_param(more)))
    return folder


def test_there_are_commands():
    assert len(COMMANDS) == 8


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("caffe ")])
def test_command(folder, line):
    program, *arguments = shlex.split(line)
    result = run_tool(program, *arguments, cwd=folder)
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
def test_tensorboard_shows_the_run(folder):
    """The line that does not return; at a port that is free."""
    pytest.importorskip("tensorboard")
    place = next(i for i, line in enumerate(COMMANDS) if line.startswith("tensorboard "))
    if not (folder / "run1").exists():  # the test of the line before has not been asked for
        test_command(folder, COMMANDS[place - 1])
    _, *arguments = shlex.split(COMMANDS[place])
    command = [str(Path(sys.executable).with_name("tensorboard")), *arguments, "--port=0"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        address = next(found[0] for line in process.stderr if (found := re.search(r"http://\S+", line)))
        for _ in range(60):  # it reads the files after it has said where it is
            with urlopen(f"{address}data/plugin/scalars/tags") as answer:
                tags = json.load(answer)
            if tags:
                break
            time.sleep(1)
    finally:
        process.kill()
        process.communicate()
    assert any("loss" in tag for run in tags.values() for tag in run)


def test_rows_are_as_they_are_shown(folder):
    shown = [json.loads(line) for line in re.search(r"```json\n(.*?)```", TEXT, re.DOTALL)[1].splitlines()]
    written = [json.loads(line) for line in (folder / "run1" / "metrics.jsonl").read_text().splitlines()]
    for example in shown:
        (row, *_) = [row for row in written if row["kind"] == example["kind"]]
        assert list(row) == list(example)
        assert set(row["outputs"]) == set(example["outputs"])


LOG = """\
I1124 10:00:00.000001  7 solver.cpp:1] Iteration 0, Testing net (#0)
I1124 10:00:01.000001  7 solver.cpp:1]     Test net output #0: accuracy = 0.5
I1124 10:00:01.000001  7 solver.cpp:1] Best so far: accuracy = 0.5
I1124 10:00:02.000001  7 solver.cpp:1] Iteration 0 (0 iter/s, 1s/5 iters), loss = 2.5
I1124 10:00:02.000001  7 solver.cpp:1]     Train net output #0: loss = 2.5 (* 1 = 2.5 loss)
I1124 10:00:02.000001  7 solver.cpp:1] Iteration 0, lr = 0.01
I1124 10:00:02.000001  7 solver.cpp:1] Iteration 0, gradient norm = 3.5
I1124 10:00:03.000001  7 solver.cpp:1] Plateau: loss has not improved in 5 tests (best 1 in iteration 3): lr 1 -> 0.1
I1124 10:00:03.000001  7 solver.cpp:1] Iteration 5, Testing net (#0)
I1124 10:00:03.000001  7 solver.cpp:1]     Test net output #0: accuracy = 0.75
I1124 10:00:04.000001  7 solver.cpp:1] Iteration 5 (1 iter/s, 1s/5 iters), loss = 1.5
I1124 10:00:04.000001  7 solver.cpp:1]     Train net output #0: loss = 1.5 (* 1 = 1.5 loss)
I1124 10:00:04.000001  7 solver.cpp:1] Iteration 5, lr = 0.001
"""


def test_the_lines_that_are_new_do_not_disturb_readers_of_logs(tmp_path):
    (tmp_path / "a.log").write_text(LOG)
    run_tool("parse_log", "a.log", ".", cwd=tmp_path, check=True)
    train = (tmp_path / "a.log.train").read_text().splitlines()
    test = (tmp_path / "a.log.test").read_text().splitlines()
    assert [row.split(",")[0] for row in train] == ["NumIters", "0", "5"]
    assert [row.split(",")[-1] for row in train[1:]] == ["2.5", "1.5"]
    assert [row.split(",")[-1] for row in test[1:]] == ["0.5", "0.75"]
