"""Convolutions give the same bits whatever the number of threads, each number in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest

from caffetools.engine.cpu.conv import ConvPlan

# images, channels, outputs, filter, stride, pad, group, image: small batches, whose work is cut within an image.
CASES = [
    (1, 64, 48, 3, 1, 1, 1, 28),
    (1, 64, 64, 3, 2, 1, 1, 28),
    (3, 48, 40, 5, 1, 2, 2, 14),
    (1, 3, 32, 7, 2, 3, 1, 56),
    (16, 20, 50, 5, 1, 0, 1, 12),
    (2, 96, 64, 1, 1, 0, 1, 7),
    (1, 48, 40, 1, 1, 0, 2, 57),
    (1, 40, 40, 3, 2, 1, 40, 28),
    (2, 20, 20, 3, 1, 1, 20, 57),
]
PROGRAM = """
import hashlib, sys
import numpy as np
from caffetools.engine.cpu.conv import ConvPlan
for n, c, m, k, stride, pad, group, size in eval(sys.argv[1]):
    rng = np.random.default_rng(5)
    x, w, b = (rng.standard_normal(s, np.float32) for s in ((n, c, size, size), (m, c // group, k, k), m))
    plan = ConvPlan(x.shape, w.shape, stride, pad, 1, group)
    y, dx, dw, db = np.empty(plan.y_shape, np.float32), np.empty_like(x), np.zeros_like(w), np.zeros_like(b)
    dy = rng.standard_normal(y.shape, np.float32)
    plan.forward(x, w, b, y)
    plan.backward_data(dy, w, dx)
    plan.backward_weights(x, dy, dw, db)
    print(*(hashlib.sha256(v.tobytes()).hexdigest()[:16] for v in (y, dx, dw, db)))
"""


def digests(threads):
    environment = {**os.environ, "NUMBA_NUM_THREADS": str(threads)}
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", PROGRAM, repr(CASES)]
    result = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


@pytest.fixture(scope="module")
def of_one_thread():
    return digests(1)


@pytest.mark.parametrize("threads", [2, 4, 7])
def test_same_bits(threads, of_one_thread):
    assert len(of_one_thread) == len(CASES)
    assert digests(threads) == of_one_thread


@pytest.mark.parametrize("case", CASES)
def test_cuts_for_many_threads_give_the_same_bits(case, monkeypatch):
    n, c, m, k, stride, pad, group, size = case
    rng = np.random.default_rng(5)
    x, w = rng.standard_normal((n, c, size, size), np.float32), rng.standard_normal((m, c // group, k, k), np.float32)
    plan, results = ConvPlan(x.shape, w.shape, stride, pad, 1, group), []
    for threads in (1, 64, 1):
        monkeypatch.setattr(numba, "get_num_threads", lambda threads=threads: threads)
        y, dx, dw = np.empty(plan.y_shape, np.float32), np.empty_like(x), np.zeros_like(w)
        plan.forward(x, w, None, y)
        plan.backward_data(y, w, dx)
        plan.backward_weights(x, y, dw, None)
        results.append((y, dx, dw))
    for one, many, again in zip(*results, strict=True):
        np.testing.assert_array_equal(one, many)
        np.testing.assert_array_equal(one, again)
