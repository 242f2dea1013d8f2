"""The commands' logs, line for line, against the original's: what scripts and people parse must not move."""

from __future__ import annotations

import shutil

import pytest

from tests.recorded import FORMATS, log_lines, recorded_log, run_tool, split_numbers

INPUTS = ("*.prototxt", "*.caffemodel", "*.solverstate", "*.h5")


@pytest.fixture
def folder(tmp_path):
    """A writable copy of the files that the recorded commands worked on."""
    for pattern in INPUTS:
        for path in FORMATS.glob(pattern):
            shutil.copy(path, tmp_path / path.name)
            (tmp_path / path.name).chmod(0o644)
    for name in ("mnist_train_lmdb", "mnist_t10k_lmdb"):
        shutil.copytree(FORMATS / name, tmp_path / name)
    return tmp_path


def run_recorded(name, folder):
    """Run a recorded command line with our tool; return both logs and both exit statuses."""
    command, status, out, err = recorded_log(name)
    result = run_tool(command[0].split("/")[-1], *command[1:], cwd=folder)
    return result, status, out, err


def assert_same_log(mine, theirs, values, rtol=2e-3):
    """Compare line by line; `values` says for a line whether its numbers must agree, too."""
    mine, theirs = log_lines(mine), log_lines(theirs)
    for number, (ours, original) in enumerate(zip(mine, theirs, strict=False)):
        (text, numbers), (original_text, original_numbers) = split_numbers(ours), split_numbers(original)
        assert text == original_text, f"line {number}: {ours!r} is recorded as {original!r}"
        if values(original):
            assert numbers == pytest.approx(original_numbers, rel=rtol, abs=1e-6), (
                f"line {number}: {ours!r}, {original!r}"
            )
    assert len(mine) == len(theirs)


def drawn_by_fillers(line):
    """Say whether the numbers of a line depend on initial weights, which the two programs draw differently."""
    return "net output" in line or ", loss = " in line


def test_values_of_a_scored_net(folder):
    result, status, _, err = run_recorded("log_test", folder)
    assert result.returncode == status == 0, result.stderr
    assert_same_log(result.stderr, err, values=lambda line: True)


def test_values_of_a_resumed_run(folder):
    """The recorded snapshot is that of the fine-tuned run, which came last: from there on ours shows its values."""
    result, _, _, _ = run_recorded("log_train_resume", folder)
    recorded = recorded_log("log_train_finetune")[3]
    tail = [text[text.index("Iteration 20, Testing net") :] for text in (result.stderr, recorded)]
    assert_same_log(*tail, values=lambda line: True)


LOGS = ["log_train", "log_train_h5", "log_train_resume", "log_train_finetune", "log_time"]


@pytest.mark.parametrize("name", LOGS)
def test_lines(name, folder):
    result, status, _, err = run_recorded(name, folder)
    assert result.returncode == status == 0, result.stderr
    assert_same_log(result.stderr, err, values=lambda line: not drawn_by_fillers(line))


FAILURES = [
    "log_bad_bottom",
    "log_bad_layer_type",
    "log_bad_syntax",
    "log_bad_weights",
    "log_caffe_bogus",
    "log_train_missing_solver",
    "log_train_nosolver",
]


@pytest.mark.parametrize("name", FAILURES)
def test_failures(name, folder):
    result, status, _, err = run_recorded(name, folder)
    assert result.returncode == status == 134
    mine, theirs = log_lines(result.stderr), [libprotobuf(line) for line in log_lines(err)]
    assert mine[:-1] == theirs[:-1]
    # The F line keeps the original's words; ours may go on with the reason and the remedy.
    assert mine[-1].startswith(theirs[-1])
    assert "Traceback" not in result.stderr


def libprotobuf(line):
    """Return the line that libprotobuf printed past the log as the E line that we make of it."""
    return "E " + line.split("] ", 1)[1] if line.startswith("[libprotobuf ERROR") else line


def test_usage_without_arguments(folder):
    result, status, out, _ = run_recorded("log_caffe_noargs", folder)
    assert result.returncode == status == 0
    assert result.stdout.startswith(out.rstrip("\n"))
