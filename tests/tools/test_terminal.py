"""What a terminal shows: a progress line under the log and the memory that is needed; a pipe gets neither."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
import sys

import pytest

from tests.recorded import FORMATS, run_tool, tool_environment

pty = pytest.importorskip("pty")  # POSIX only

PROGRESS = re.compile(r"\d+%\|.*\d+/3000 \[.*<.*it/s, loss=")  # share, count, time left, speed, loss


@pytest.fixture
def folder(tmp_path):
    for name in ("mnist_train_lmdb", "mnist_t10k_lmdb"):
        shutil.copytree(FORMATS / name, tmp_path / name)
    shutil.copy(FORMATS / "train_test.prototxt", tmp_path / "train_test.prototxt")
    text = (FORMATS / "solver.prototxt").read_text()
    text = text.replace("max_iter: 40", "max_iter: 3000").replace("display: 10", "display: 1000")
    (tmp_path / "solver.prototxt").write_text(text.replace("snapshot: 20", "snapshot: 0"))
    return tmp_path


def on_a_terminal(folder, *arguments):
    """Run `caffe` with standard error on a pseudo-terminal; return exit status and what the terminal got."""
    import fcntl
    import termios

    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    command = [sys.executable, "-m", "caffetools.cli.caffe", *arguments]
    process = subprocess.Popen(command, cwd=folder, env=tool_environment(), stderr=slave)
    os.close(slave)
    got = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:  # Linux says so where the other side has closed
            break
        if not piece:
            break
        got += piece
    os.close(master)
    return process.wait(60), got.decode()


def test_training_on_a_terminal(folder):
    status, text = on_a_terminal(folder, "train", "--solver=solver.prototxt")
    assert status == 0
    assert re.search(r"Memory needed: [\d.]+ MiB for data and diffs, [\d.]+ MiB for parameters", text)
    assert text.index("Memory needed") < text.index("Starting Optimization")
    assert PROGRESS.search(text)
    # The line is cleared before a log line is printed, so each of those starts in the first column.
    for line in re.findall(r"[^\r\n]*\] Iteration \d+.*", text):
        assert re.match(r"I\d{4} ", line), line


def test_training_into_a_pipe(folder):
    result = run_tool("caffe", "train", "--solver=solver.prototxt", cwd=folder)
    assert result.returncode == 0
    assert "it/s" not in result.stderr
    assert "Memory needed" not in result.stderr
    assert "\r" not in result.stderr


def test_verbose_logs_tell_the_memory_too(folder):
    result = run_tool("caffe", "train", "--solver=solver.prototxt", "--v=1", cwd=folder)
    assert re.search(r"^I\d{4} .*\] Memory needed: ", result.stderr, re.M)
