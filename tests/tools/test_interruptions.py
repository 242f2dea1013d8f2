"""Real signals and real kills sent to `caffe train` as a process: what is stopped can go on, and nothing is lost."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from caffetools.proto import caffe_pb2
from tests.recorded import FORMATS, run_tool, tool_environment

pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX signals")

TRAIN = [sys.executable, "-m", "caffetools.cli.caffe", "train", "--solver=solver.prototxt"]
ENDLESS = 10_000_000


@pytest.fixture
def folder(tmp_path):
    for name in ("mnist_train_lmdb", "mnist_t10k_lmdb"):
        shutil.copytree(FORMATS / name, tmp_path / name)
    shutil.copy(FORMATS / "train_test.prototxt", tmp_path / "train_test.prototxt")
    return tmp_path


def write_solver(folder: Path, **changes) -> None:
    """Write the recorded solver with some fields changed."""
    param = caffe_pb2.SolverParameter()
    fields = {"max_iter": ENDLESS, "snapshot": 0, "test_interval": ENDLESS, "display": 10, **changes}
    text = (FORMATS / "solver.prototxt").read_text()
    for name, value in fields.items():
        assert param.DESCRIPTOR.fields_by_name[name]
        text = re.sub(rf"^{name}: .*\n", "", text, flags=re.MULTILINE) + f"{name}: {value}\n"
    (folder / "solver.prototxt").write_text(text)


def start(folder: Path, *flags: str) -> subprocess.Popen:
    """Start training; its log goes to log.txt."""
    with open(folder / "log.txt", "w") as log:
        return subprocess.Popen([*TRAIN, *flags], cwd=folder, env=tool_environment(), stderr=log)


def wait_for(folder: Path, words: str, count: int = 1, seconds: float = 120) -> None:
    """Wait until the log has `words` `count` times."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if occurrences(folder, words) >= count:
            return
        time.sleep(0.01)
    pytest.fail(f"{words!r} is not {count} times in\n{(folder / 'log.txt').read_text()[-2000:]}")


def occurrences(folder: Path, words: str) -> int:
    """Return how often `words` are in the log."""
    log = folder / "log.txt"
    return log.read_text().count(words) if log.exists() else 0


def states(folder: Path) -> list[int]:
    """Return the iterations of the snapshots that are there, ascending."""
    return sorted(
        int(re.findall(r"iter_(\d+)", path.name)[0]) for path in folder.glob("small_iter_*.solverstate")
    )


def resume(folder: Path, iteration: int) -> str:
    """Train on from a snapshot for five iterations and return the log."""
    write_solver(folder, max_iter=iteration + 5)
    result = run_tool(
        "caffe",
        "train",
        "--solver=solver.prototxt",
        f"--snapshot=small_iter_{iteration}.solverstate",
        cwd=folder,
    )
    assert result.returncode == 0, result.stderr
    assert "Optimization Done." in result.stderr
    return result.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stop(folder, number):
    write_solver(folder)
    process = start(folder)
    wait_for(folder, "Iteration 20 ")
    process.send_signal(number)
    assert process.wait(60) == 0
    log = (folder / "log.txt").read_text()
    assert "Optimization stopped early." in log
    (iteration,) = states(folder)
    assert iteration > 20
    assert f"small_iter_{iteration}.caffemodel" in log
    resume(folder, iteration)


def test_held_interrupt_loses_nothing(folder):
    """A held Ctrl-C sends the signal many times a second: all of them ask for one stop with one snapshot."""
    write_solver(folder)
    process = start(folder)
    wait_for(folder, "Iteration 20 ")
    for _ in range(30):
        process.send_signal(signal.SIGINT)
        time.sleep(0.01)
    # Those that come when all is written end a program that is at its end anyway.
    assert process.wait(60) in (0, 130, -signal.SIGINT)
    (iteration,) = states(folder)
    resume(folder, iteration)


def test_hangup_takes_a_snapshot_and_goes_on(folder):
    write_solver(folder)
    process = start(folder)
    wait_for(folder, "Iteration 20 ")
    process.send_signal(signal.SIGHUP)
    wait_for(folder, "Snapshotting solver state")
    wait_for(folder, "iter/s", occurrences(folder, "iter/s") + 5)
    assert process.poll() is None
    process.kill()
    process.wait()
    (iteration,) = states(folder)
    resume(folder, iteration)


@pytest.mark.parametrize(
    ("flag", "number", "snapshots", "goes_on"),
    [
        ("--sigint_effect=none", signal.SIGINT, 0, True),
        ("--sigint_effect=snapshot", signal.SIGINT, 1, True),
        ("--sighup_effect=stop", signal.SIGHUP, 1, False),
        ("--sigterm_effect=none", signal.SIGTERM, 0, True),
    ],
)
def test_effects(folder, flag, number, snapshots, goes_on):
    write_solver(folder)
    process = start(folder, flag)
    wait_for(folder, "Iteration 20 ")
    process.send_signal(number)
    if goes_on:
        wait_for(folder, "iter/s", occurrences(folder, "iter/s") + 5)
        assert process.poll() is None
        process.kill()
        process.wait()
    else:
        assert process.wait(60) == 0
    assert len(states(folder)) == snapshots


def test_unknown_effect(folder):
    write_solver(folder)
    result = run_tool("caffe", "train", "--solver=solver.prototxt", "--sigint_effect=explode", cwd=folder)
    assert result.returncode == 134
    assert 'Invalid signal effect "explode" was specified' in result.stderr


def test_interrupt_under_a_pipe(folder):
    """Ctrl-C reaches `tee` as well, which ends first: the snapshot must be written all the same."""
    write_solver(folder)
    command = " ".join(TRAIN) + " 2>&1 | tee log.txt"
    process = subprocess.Popen(
        ["bash", "-c", command],
        cwd=folder,
        env=tool_environment(),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
    )
    wait_for(folder, "Iteration 20 ")
    os.killpg(process.pid, signal.SIGINT)
    process.wait(60)
    deadline = time.monotonic() + 60
    while not states(folder) and time.monotonic() < deadline:
        time.sleep(0.05)
    (iteration,) = states(folder)
    resume(folder, iteration)


@pytest.mark.parametrize("delay", [0.0, 0.02, 0.05, 0.13])
def test_kill_while_snapshots_are_written(folder, delay):
    write_solver(folder, snapshot=1, display=1)
    process = start(folder)
    wait_for(folder, "Iteration 3 ")
    time.sleep(delay)
    process.kill()
    process.wait()
    iterations = states(folder)
    assert len(iterations) >= 2
    for iteration in iterations[-2:]:
        resume(folder, iteration)


def test_stop_during_a_test(folder):
    write_solver(folder, test_interval=1_000_000, test_iter=ENDLESS)
    process = start(folder)
    wait_for(folder, "Testing net")
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    assert "Test interrupted." in (folder / "log.txt").read_text()
