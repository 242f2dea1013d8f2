"""The benchmark of how work is split: its arithmetic, and that every piece of a loop runs once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.recorded import tool_environment

ROOT = Path(__file__).parents[2]

# One loop of 8 on one thread, cut into two on two threads, and one that is never cut.
ALONE = [("a", "x:1", 1), ("a", "x:1", [8]), ("b", "y:2", 1), ("b", "y:2", [2]), ("b", "end", 2)]
SPLIT = [("a", "x:1", 2), ("a", "x:1", [5, 4]), ("b", "y:2", 0), ("b", "y:2", [2]), ("b", "end", 0)]


@pytest.fixture(scope="module")
def bench():
    pytest.importorskip("torch")
    from scripts.bench import bench_split

    return bench_split


def test_speedups_are_of_the_longest_pieces(bench):
    loops, rest = bench.longest(ALONE), bench.between(ALONE)
    assert (loops, rest) == (10, 4)
    assert bench.speedups(loops, rest, SPLIT) == (10 / 7, 14 / 11)


def test_losses_are_listed_from_the_worst(bench):
    assert bench.losses(ALONE, SPLIT, 2) == [("a, x:1", 1.0, 1.6), ("b, y:2", 1.0, 1.0)]
    assert [name for name, _, _ in bench.losses(ALONE, SPLIT, 4)] == ["a, x:1", "b, y:2"]


def test_the_fastest_of_all_passes_counts_for_each_piece(bench):
    passes = [[("a", "x", 5), ("a", "x", [1, 9])], [("a", "x", 3), ("a", "x", [2, 4])]]
    assert bench.fastest(passes) == [("a", "x", 3), ("a", "x", [1, 4])]


def test_passes_that_differ_are_refused(bench):
    with pytest.raises(ValueError, match="different numbers of loops"):
        bench.fastest([[("a", "x", 5)], []])


PROGRAM = """
import numpy as np
import numba
from caffetools.engine.cpu import threads
from scripts.bench.in_turns import Turns

turns = Turns()

@numba.njit(parallel=True)
def add_and_subtract(x, y):
    for i in numba.prange(x.size):
        x[i] += i
    for i in numba.prange(y.size):
        y[i] -= i

x, y = np.zeros(50), np.zeros(3)
for count in (7, 2):
    numba.set_num_threads(count)
    print([len(times) for _, _, times in turns.watch(lambda: add_and_subtract(x, y)) if isinstance(times, list)])
assert (x == 2 * np.arange(50)).all() and (y == -2 * np.arange(3)).all()
"""


@pytest.mark.slow
def test_every_piece_runs_once():
    env = {**tool_environment(), "NUMBA_NUM_THREADS": "8"}
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, env=env, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == ["[7, 7]", "[2, 2]"]
