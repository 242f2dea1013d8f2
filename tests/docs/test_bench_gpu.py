"""The GPU benchmark: its figures, its bars and its order of turns; a dry run of the whole, which takes a while."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from scripts.bench import bench_gpu
from scripts.bench.gpu_table import HEADER, Race, geometric_mean, verdicts
from tests.recorded import tool_environment

ROOT = Path(__file__).parents[2]


def race(net="lenet", what="forward", ours=(2.0,), theirs=(2.0,), batch=100):
    return Race(net, batch, what, ours, theirs)


def test_rates_are_of_medians_and_the_ratio_of_rounds():
    measured = race(ours=[1.0, 2.0, 100.0], theirs=[3.0, 2.0, 100.0], batch=10)
    assert measured.rates == (5.0, 10 / 3)
    assert measured.ratio == 1.0 and measured.ratios == [3, 1, 1]


def test_geometric_mean():
    assert geometric_mean([0.5, 2, 8]) == pytest.approx(2)


def test_lines_stand_below_the_header():
    line = Race("alexnet", 256, "training step", [0.1, 0.2], [0.2, 0.2], (6.9, 6.91)).line()
    assert line.split() == ["alexnet", "256", "training", "step", "1707", "1280", "1.50", "1.00", "2.00", "6.9", "6.91"]
    assert line.index("1.50") + 4 == HEADER.index("ratio") + 5


@pytest.mark.parametrize(
    ("ratios", "passed"),
    [((1.0, 1.0), [True, True]), ((0.79, 2.0), [False, True]), ((0.8, 1.2), [True, False]), ((3, 0.5), [False, True])],
)
def test_bars(ratios, passed):
    lines = verdicts([race(ours=[1.0], theirs=[ratio]) for ratio in ratios])
    assert [line.startswith("pass") for line in lines] == passed


def test_bars_of_alexnet():
    # 256 images in 0.0256 s: 0.1 ms an image, 864 million a day.
    lines = verdicts([race("alexnet", ours=[0.0256], theirs=[0.0256], batch=256)])
    assert "pass  AlexNet forward 0.1000 ms an image, bar 0.2" in lines
    assert "pass  AlexNet forward 864 million images a day, 12.0 times the original's claim" in lines
    assert any(line.startswith("FAIL  AlexNet") for line in verdicts([race("alexnet", ours=[0.06], theirs=[1.0])]))
    assert not any("AlexNet" in line for line in verdicts([race("alexnet", "training step")]))


def test_nothing_measured_is_no_success():
    assert verdicts([]) == ["nothing was measured"]


def test_sides_take_turns_in_both_orders(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(bench_gpu.time, "perf_counter", lambda: clock[0])
    order = []

    def side(name, seconds):
        def run(count):
            order.append((name, count))
            clock[0] += seconds * count

        return run

    ours, theirs = bench_gpu.race(side("a", 0.01), side("b", 0.02), lambda: None, rounds=4, seconds=0.16)
    assert ours == pytest.approx([0.01] * 4) and theirs == pytest.approx([0.02] * 4)
    assert [name for name, _ in order[-8:]] == list("abbaabba")
    assert {count for name, count in order[-8:] if name == "a"} == {16}
    assert {count for name, count in order[-8:] if name == "b"} == {8}


def test_an_unknown_net_is_refused(capsys):
    with pytest.raises(SystemExit):
        bench_gpu.main(["--only", "lenets"])
    assert "unknown net lenets (there are lenet, cifar10_quick, alexnet" in capsys.readouterr().err


@pytest.mark.slow
def test_dry_run():
    pytest.importorskip("torch")
    command = ["-m", "scripts.bench.bench_gpu", "--dry_run", "--rounds", "2", "--seconds", "0.05"]
    result = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=tool_environment(), capture_output=True, text=True, timeout=900
    )
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines[2:6]] == ["lenet"] * 2 + ["cifar10_quick"] * 2
    for line in lines[2:6]:  # both sides computed the same
        ours, theirs = map(float, line.split()[-2:])
        assert ours == pytest.approx(theirs, rel=1e-3)
    assert lines[-1] == "A dry run: the figures say nothing."
