"""The fields that Caffe never had: one table in the docs, the flags of `caffe train` and the schema say the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from caffetools.cli.caffe import command
from caffetools.cli.run_flags import RUN_FLAGS
from caffetools.proto import caffe_pb2
from tests.recorded import run_tool
from tests.solver.small_run import lay_out, solver_param

FIELDS = {
    field.name: field for field in caffe_pb2.SolverParameter.DESCRIPTOR.fields if field.number >= 10_000
}
DOCS = (Path(__file__).parents[2] / "docs" / "run_control.md").read_text(encoding="utf-8")
#: name, number, flag, default
TABLE = re.findall(r"^\| `(\w+)` \| (\d+) \| (?:`--(\w+)`|none) \| `([^`]*)` \| .+ \|$", DOCS, re.MULTILINE)
FLAGS = {flag.name: flag for flag in command.own_flags}


def test_the_table_has_every_field():
    assert [(name, int(number)) for name, number, _, _ in TABLE] == [
        (name, field.number) for name, field in FIELDS.items()
    ]


@pytest.mark.parametrize(("name", "default"), [(row[0], row[3]) for row in TABLE])
def test_defaults_of_the_table(name, default):
    value = FIELDS[name].default_value
    if isinstance(value, str):
        assert default == f'"{value}"'
    else:
        assert default == (str(value).lower() if isinstance(value, bool) else f"{value:g}")


def test_flags_of_the_table():
    assert tuple(flag for _, _, flag, _ in TABLE if flag) == RUN_FLAGS
    assert all(flag in ("", name) for name, _, flag, _ in TABLE)


@pytest.mark.parametrize("name", RUN_FLAGS)
def test_a_flag_is_its_field(name):
    assert FLAGS[name].default_value == FIELDS[name].default_value
    assert type(FLAGS[name].default_value) is type(FIELDS[name].default_value)


@pytest.fixture
def folder(tmp_path):
    lay_out(tmp_path)
    (tmp_path / "solver.prototxt").write_text(str(solver_param("max_iter: 2 snapshot_keep: 5 ema_test: false")))
    return tmp_path


def resolved(folder, *arguments):
    """The solver file as a run has it, from its log."""
    result = run_tool("caffe", "train", "--solver=solver.prototxt", *arguments, cwd=folder, check=True)
    return result.stderr.partition("Initializing solver from parameters")[2].partition("Creating training net")[0]


def test_only_flags_that_are_given_replace_fields(folder):
    text = resolved(folder, "--snapshot_best=accuracy", "--ema_decay=0.25", "--noema_snapshot")
    lines = ["snapshot_keep: 5", "ema_test: false", 'snapshot_best: "accuracy"', "ema_decay: 0.25"]
    for line in (*lines, "ema_snapshot: false"):
        assert f"\n{line}\n" in text
    assert "early_stop" not in text


def test_a_default_that_is_given_counts(folder):
    text = resolved(folder, "--snapshot_keep=0", "--ema_test")
    assert "\nsnapshot_keep: 0\n" in text
    assert "\nema_test: true\n" in text


def test_several_changes_in_any_form(folder):
    text = resolved(folder, "--set", "solver.base_lr=0.5", "--set=solver.momentum=0.25", "-set", "solver.gamma=2")
    for line in ("base_lr: 0.5", "momentum: 0.25", "gamma: 2"):
        assert f"\n{line}\n" in text


def test_a_change_goes_before_a_flag(folder):
    assert "\nsnapshot_keep: 7\n" in resolved(folder, "--set", "solver.snapshot_keep=7", "--snapshot_keep=6")


def test_auto(folder):
    first = run_tool("caffe", "train", "--solver=solver.prototxt", "--snapshot=auto", cwd=folder, check=True)
    assert "There is no whole snapshot s_iter_*: starting from the beginning" in first.stderr
    again = run_tool(
        "caffe", "train", "--solver=solver.prototxt", "--snapshot=auto", "--set", "solver.max_iter=4", cwd=folder,
        check=True,
    )  # fmt: skip
    assert "Resuming from s_iter_2.solverstate" in again.stderr
    assert (folder / "s_iter_4.solverstate").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--ema_decay=much"], "illegal value 'much' specified for double flag 'ema_decay'"),
        (["--snapshot_bset=loss"], "Did you mean --snapshot_best or"),
        (["--metrics=m", "--metrics_interval=0"], "FLAGS_metrics_interval > 0"),
        (["--snapshot=s.solverstate", "--weights=w.caffemodel"], "Give a snapshot to resume training or weights"),
        (["--reproduce=m"], "--reproduce repeats a run as it was: leave --solver out"),
        (["--time_limit=2hours"], "time_limit: '2hours' is no length of time, such as 2h30m"),
    ],
)
def test_refused(folder, arguments, words):
    result = run_tool("caffe", "train", "--solver=solver.prototxt", *arguments, cwd=folder)
    assert result.returncode in (1, 134)
    assert words in result.stderr


def test_duration():
    from caffetools.solver import duration

    texts = {"2h30m": 9000, "90m": 5400, "1.5h": 5400, "45": 45, "45s": 45, "1d12h": 129600, "2H": 7200, "0.5": 0.5}
    assert {text: duration.parse(text, "x") for text in texts} == texts
