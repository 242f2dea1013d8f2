"""How failures end: one F line, the original's exit codes, a traceback only on request."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import time

import click
import pytest

from caffetools import glog
from caffetools.cli.command import Tool
from caffetools.cli.failures import run_tool
from tests.cli.cli_run import ROOT, run


def failing(err):
    def main():
        raise err

    return main


@pytest.fixture(autouse=True)
def logging():
    glog.flags.reset()
    glog.init("prog", logtostderr=True)
    yield
    glog.shutdown()
    glog.flags.reset()


@pytest.mark.parametrize("result, code", [(None, 0), (0, 0), (2, 2), ("a solver", 0)])
def test_success(capfd, result, code):
    assert run_tool(lambda: result) == code
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "err, text",
    [
        (glog.FatalError("Unknown action: x"), "Unknown action: x"),
        (ValueError("bad"), "Internal error: ValueError: bad (run again with --traceback to see where)"),
        (KeyError("k"), "Internal error: KeyError: 'k' (run again with --traceback to see where)"),
        (
            OSError(errno.ENOSPC, "No space left on device", "a.caffemodel"),
            "No space left on device: a.caffemodel (run again with --traceback to see where)",
        ),
        (MemoryError("1 TB"), "Out of memory. 1 TB (run again with --traceback to see where)"),
    ],
)
def test_failure_is_one_f_line_and_134(capfd, err, text):
    assert run_tool(failing(err)) == 134
    out, lines = capfd.readouterr()
    assert out == "" and re.fullmatch(rf"F\d{{4}} [\d:.]+ +\d+ \w+\.py:\d+\] {re.escape(text)}\n", lines)


def test_exit_code_of_a_fatal_error_is_its_own(capfd):
    assert run_tool(failing(glog.FatalError("x", exit_code=2))) == 2


def test_traceback_on_request(capfd):
    assert run_tool(failing(ValueError("bad")), lambda: True) == 134
    lines = capfd.readouterr().err.splitlines()
    assert lines[1] == "*** Check failure stack trace: ***"
    assert lines[2].startswith("Traceback ") and lines[-1] == "ValueError: bad"
    assert any("test_failures.py" in line for line in lines)


@pytest.mark.parametrize(
    "err, code", [(KeyboardInterrupt(), 130), (BrokenPipeError(), 141), (click.exceptions.Exit(3), 3)]
)
def test_quiet_ends(capfd, monkeypatch, err, code):
    monkeypatch.setattr(glog, "silence", lambda stream: None)
    assert run_tool(failing(err)) == code
    assert capfd.readouterr() == ("", "")


def test_errors_of_click_do_not_look_like_clicks(capfd):
    assert run_tool(failing(click.UsageError("ERROR: in gflags' words"))) == 2
    assert capfd.readouterr() == ("", "ERROR: in gflags' words\n")


@pytest.mark.parametrize("traceback", [True, False])
def test_flag_traceback(capfd, traceback):
    tool = Tool("tool", usage="fail", callback=lambda args: glog.fatal("no"))
    with pytest.raises(SystemExit) as caught:
        tool.main(["--traceback"] if traceback else [], "tool")
    assert caught.value.code == 134
    assert ("Traceback" in capfd.readouterr().err) == traceback


@pytest.mark.parametrize("log_to_stderr", [True, False])
@pytest.mark.parametrize(
    "args, decides", [([], None), (["--alsologtostderr"], True), (["--noalsologtostderr"], False)]
)
def test_info_lines_on_stderr(capfd, tmp_path, log_to_stderr, args, decides):
    glog.flags.reset()
    tool = Tool("tool", usage="log", callback=lambda args: glog.info("i"), log_to_stderr=log_to_stderr)
    with pytest.raises(SystemExit):
        tool.main([f"--log_dir={tmp_path}", *args], "tool")
    expected = log_to_stderr if decides is None else decides
    assert capfd.readouterr().err.endswith("] i\n") == expected
    assert (tmp_path / "tool.INFO").exists()


def test_ctrl_c_is_quiet():
    code = (
        "import time; from caffetools.cli.command import Tool\n"
        "def wait(args): print('up', flush=True); time.sleep(60)\n"
        "Tool('tool', usage='wait', callback=wait).main([], 'tool')"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout.readline() == "up\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30) == ("", "") and process.returncode == 130


def test_reader_that_goes_away_is_no_error(tmp_path):
    program = f"{sys.executable} -m caffetools.cli.caffe --help"
    command = f"set -o pipefail; {{ sleep 0.2; {program}; }} | true; exit ${{PIPESTATUS[0]}}"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (141, "", "")


def test_no_tool_imports_anything_heavy_before_it_works():
    heavy = ("numpy", "numba", "google.protobuf", "lmdb", "h5py", "PIL", "tqdm")
    code = (
        "import sys; from caffetools.cli.commands import ACTIONS, TOOLS, load\n"
        "for name in ('caffe', *TOOLS, *ACTIONS): load(name)\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"


def test_failed_check_of_a_tool(tmp_path):
    result = run("caffe", "train", cwd=tmp_path)
    assert result.returncode == 134
    text = "Check failed: FLAGS_solver.size() > 0 (0 vs. 0) Need a solver definition to train."
    assert re.fullmatch(rf"F\d{{4}} \S+ +\d+ train\.py:\d+\] {re.escape(text)}\n", result.stderr)
