"""parse_log: the tables of recorded logs and of logs with every oddity, as csv and json readers see them."""

from __future__ import annotations

import csv
import json
import math

import pytest

from caffetools.glog import FatalError
from caffetools.tools.log_tables import write_tables
from tests.recorded import FORMATS, run_tool


def line(text, clock="19:39:09.5", day="1123", year=""):
    return f"I{year}{day} {clock} 29168 solver.cpp:239] {text}\n"


def write(path, *lines):
    path.write_text("".join(lines))
    return str(path)


def tables(log, folder):
    """Return both tables as csv's reader and json's see them, which must agree."""
    found = []
    for csv_path, json_path in zip(
        write_tables(log, str(folder)), write_tables(log, str(folder), "json"), strict=True
    ):
        with open(csv_path, newline="") as file:
            rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
        with open(json_path) as file:
            for mine, other in zip(rows, json.load(file), strict=True):
                for name, value in mine.items():
                    assert other.get(name) == (value if math.isfinite(value) else None)
        found.append(rows)
    return found


def test_recorded_run(tmp_path):
    train, test = tables(str(FORMATS / "log_train.txt"), tmp_path)
    assert [list(row.values()) for row in train] == [
        [0, pytest.approx(0.000854), 0.05, 2.29606],
        [10, pytest.approx(0.002988), 0.0499625, 1.24569],
        [20, pytest.approx(0.005848), 0.0499251, 0.134196],
        [30, pytest.approx(0.007893), 0.0498878, 0.0128464],
    ]
    assert [list(row.values()) for row in test] == [
        [0, pytest.approx(0.00054), 0.05, 0.15625, 2.30304],
        [20, pytest.approx(0.005595), 0.0499251, 1, 0.143932],
        [40, pytest.approx(0.01032), 0.0498878, 1, 0.00462408],
    ]
    assert list(train[0]) == ["NumIters", "Seconds", "LearningRate", "loss"]
    assert list(test[0]) == ["NumIters", "Seconds", "LearningRate", "accuracy", "loss"]


def test_our_own_log(tmp_path):
    """A run of ours on the recorded net gives the iterations of the recorded one."""
    for path in FORMATS.glob("*.prototxt"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    for name in ("mnist_train_lmdb", "mnist_t10k_lmdb"):
        (tmp_path / name).symlink_to(FORMATS / name)
    result = run_tool("caffe", "train", "--solver=solver.prototxt", cwd=tmp_path, check=True)
    (tmp_path / "our.log").write_text(result.stderr)
    mine, recorded = (tables(str(log), tmp_path) for log in (tmp_path / "our.log", FORMATS / "log_train.txt"))
    for ours, theirs in zip(mine, recorded, strict=True):
        assert [(row["NumIters"], row["LearningRate"]) for row in ours] == [
            (row["NumIters"], row["LearningRate"]) for row in theirs
        ]
        assert [list(row) for row in ours] == [list(row) for row in theirs]
        assert all(0 <= row["Seconds"] < 300 for row in ours)


@pytest.mark.parametrize("year", ["", "2026"])
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1.5e-07", "-3"])
def test_every_value_in_lines_of_every_form(value, year, tmp_path):
    log = write(
        tmp_path / "a.log",
        line("Solving LeNet", year=year),
        line(f"Iteration 5 (3 iter/s, 2s/5 iters), loss = {value}", "19:39:11.75", year=year),
        line(f"    Train net output #0: loss = {value} (* 1 = {value} loss)", "19:39:11.75", year=year),
    )
    ((row,), test) = tables(log, tmp_path)
    assert test == []
    assert row["NumIters"] == 5 and row["Seconds"] == 2.25 and math.isnan(row["LearningRate"])
    assert row["loss"] == float(value) or value == "nan"


def test_logs_of_old_releases(tmp_path):
    log = write(
        tmp_path / "a.log",
        line("Solving LeNet"),
        line("Iteration 5, loss = 0.25"),
        line("    Train net output #0: loss = 0.3 (* 1 = 0.3 loss)"),
        line("Iteration 5, lr = 0.01"),
    )
    ((row,), _) = tables(log, tmp_path)
    assert row == {"NumIters": 5, "Seconds": 0, "LearningRate": 0.01, "loss": 0.3}


def test_outputs_of_several_values_and_nets(tmp_path):
    log = write(
        tmp_path / "a.log",
        line("Solving LeNet"),
        line("Iteration 0, Testing net (#0)"),
        *[line(f"    Test net output #{i}: per_class = 0.{i}") for i in range(1, 4)],
        line("Iteration 0, Testing net (#1)"),
        line("    Test net output #0: per_class = 0.9"),
        line("Iteration 10, Testing net (#0)"),
        line("    Test net output #0: other = 7"),
    )
    _, (first, second) = tables(log, tmp_path)
    names = ["per_class", "per_class[1]", "per_class[2]", "per_class (net 1)"]
    assert [first[name] for name in names] == [0.1, 0.2, 0.3, 0.9]
    assert second["NumIters"] == 10 and second["other"] == 7 and math.isnan(second["per_class"])


def test_seconds_of_appended_logs_go_on(tmp_path):
    def run(day, hour, first):
        return [
            line("Initializing solver from parameters: ", f"{hour}:00:00.0", day),
            line("Solving LeNet", f"{hour}:00:10.0", day),
            *[
                text
                for i in range(2)
                for text in (
                    line(f"Iteration {first + i}, loss = 1", f"{hour}:00:{20 + 10 * i}.0", day),
                    line("    Train net output #0: loss = 1", f"{hour}:00:{20 + 10 * i}.0", day),
                )
            ],
        ]

    log = write(tmp_path / "a.log", *run("1231", "23", 0), *run("0102", "07", 2))
    train, _ = tables(log, tmp_path)
    assert [(row["NumIters"], row["Seconds"]) for row in train] == [(0, 10), (1, 20), (2, 30), (3, 40)]


@pytest.mark.parametrize(
    ("before", "after", "seconds"),
    [
        (("1231", "23:59:59.5", ""), ("0101", "00:00:01.5", ""), 2),
        (("0228", "23:59:59.5", "2024"), ("0301", "00:00:01.5", "2024"), 86402),
        (("0228", "23:59:59.5", ""), ("0229", "00:00:01.5", ""), 2),
    ],
)
def test_time_passes_over_months_and_years(before, after, seconds, tmp_path):
    day, clock, year = after
    log = write(
        tmp_path / "a.log",
        line("Solving LeNet", before[1], before[0], before[2]),
        line("Iteration 1, loss = 1", clock, day, year),
        line("    Train net output #0: loss = 1", clock, day, year),
    )
    ((row,), _) = tables(log, tmp_path)
    assert row["Seconds"] == seconds


def test_a_log_that_begins_in_the_middle_and_ends_within_a_line(tmp_path):
    log = write(
        tmp_path / "a.log",
        line("    Train net output #0: loss = 1"),
        "no line of a log\n",
        line("Iteration 10, loss = 0.5", "19:39:10.0"),
        line("    Train net output #0: loss = 0.25", "19:39:10.0"),
        line("Iteration 20, loss = 0.125", "19:39:11.0").rstrip("\n")[:-6],
    )
    (train, _) = tables(log, tmp_path)
    assert [row["loss"] for row in train] == [0.25]


def test_delimiter(tmp_path):
    write_tables(str(FORMATS / "log_train.txt"), str(tmp_path), delimiter=";")
    assert (tmp_path / "log_train.txt.train").read_text().startswith("NumIters;Seconds;LearningRate;loss\n0;")


@pytest.mark.parametrize(
    ("log", "folder", "options", "message"),
    [
        ("nowhere", ".", {}, "Cannot read the log nowhere: No such file or directory"),
        (".", ".", {}, "Cannot read the log .: Is a directory"),
        ("empty", ".", {}, "empty is no log of a training run"),
        ("good", "nowhere", {}, "There is no folder nowhere"),
        ("good", ".", {"form": "xml"}, "Unknown format: xml .known: csv, json"),
        ("good", ".", {"delimiter": ""}, "'' is no single character"),
    ],
)
def test_mistakes(log, folder, options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "empty")
    write(tmp_path / "good", line("Iteration 5, loss = 0.25"))
    with pytest.raises(FatalError, match=message):
        write_tables(log, folder, **options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "good"]


def test_command(tmp_path):
    result = run_tool("parse_log", "--verbose", str(FORMATS / "log_train.txt"), ".", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (
        0,
        "Wrote ./log_train.txt.train\nWrote ./log_train.txt.test\n",
    )
    assert run_tool("parse_log", "one", cwd=tmp_path).returncode == 1
