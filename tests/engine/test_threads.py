"""The choice of threads and of the threading layer."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import numba
import pytest

from caffetools.engine.cpu import threads
from caffetools.engine.cpu.one_thread import Team, threads_now
from tests.recorded import tool_environment


@pytest.mark.parametrize(
    ("variables", "count"),
    [
        ({"NUMBA_NUM_THREADS": "3"}, 3),
        ({"OMP_NUM_THREADS": "5"}, 5),
        ({"OMP_NUM_THREADS": "4,2"}, 4),
        ({"NUMBA_NUM_THREADS": "2", "OMP_NUM_THREADS": "5"}, 2),
        ({"OMP_NUM_THREADS": "many", "NUMBA_NUM_THREADS": "1"}, 1),
    ],
)
def test_environment_sets_the_number_of_threads(monkeypatch, variables, count):
    for name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert threads.thread_count() == count


def test_affinity_limits_the_number_of_threads(monkeypatch):
    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {4, 5, 6}, raising=False)
    monkeypatch.setattr(threads, "_cgroup_quota", lambda: None)
    assert threads.thread_count() == 3
    monkeypatch.setattr(threads, "_cgroup_quota", lambda: 2)
    assert threads.thread_count() == 2


@pytest.mark.parametrize(
    ("loadable", "wanted", "layer"),
    [
        ({"omppool", "tbbpool"}, None, "omp"),
        ({"tbbpool"}, None, "tbb"),
        (set(), None, "workqueue"),
        ({"omppool"}, "workqueue", "workqueue"),
        ({"omppool", "tbbpool"}, "tbb", "tbb"),
        ({"omppool", "tbbpool"}, "omp", "omp"),
        ({"tbbpool"}, "omp", "omp"),
        (set(), "tbb", "tbb"),
    ],
)
def test_cheapest_layer_that_loads_is_chosen(monkeypatch, loadable, wanted, layer):
    monkeypatch.setattr(threads, "_loads", loadable.__contains__)
    monkeypatch.setattr(threads, "_preload_tbb", lambda: False)
    monkeypatch.delenv("NUMBA_THREADING_LAYER", raising=False)
    if wanted:
        monkeypatch.setenv("NUMBA_THREADING_LAYER", wanted)
    assert threads.choose_layer() == layer


@pytest.mark.parametrize(("count", "told"), [(4, [1, 4, 1, 4]), (1, [])])
def test_a_team_tells_numba_of_changes_only(monkeypatch, count, told):
    said = []
    monkeypatch.setattr(numba, "get_num_threads", lambda: count)
    monkeypatch.setattr(numba, "set_num_threads", said.append)
    with pytest.raises(KeyError), Team() as team:
        for alone in (False, True, True, False, False, True):
            team.work_alone(alone)
        raise KeyError
    assert said == told


def test_work_is_cut_for_the_threads_of_the_innermost_team(monkeypatch):
    count = 8
    monkeypatch.setattr(numba, "get_num_threads", lambda: count)
    monkeypatch.setattr(numba, "set_num_threads", lambda number: None)
    found = [threads_now()]
    with Team() as team:
        team.work_alone(True)
        found.append(threads_now())
        with Team() as inner:
            found.append(threads_now())
            inner.work_alone(True)
            found.append(threads_now())
        found.append(threads_now())
        team.work_alone(False)
        found.append(threads_now())
    count = 3
    assert [*found, threads_now()] == [8, 1, 8, 1, 1, 8, 3]


PROGRAM = """
from caffetools.engine.cpu import jit, rng
import numba
import numpy as np
rng.random_bits(np.uint64(1), np.uint64(2))
@numba.njit(parallel=True)
def who(x):
    for i in numba.prange(x.size):
        x[i] = numba.get_thread_id()
x = np.zeros(100, np.int64)
who(x)
print(numba.config.NUMBA_NUM_THREADS, len(np.unique(x)), numba.threading_layer(), jit.compile_notice.count > 0)
"""


@pytest.mark.parametrize("variable", ["OMP_NUM_THREADS", "NUMBA_NUM_THREADS"])
@pytest.mark.parametrize("count", [1, 3])
def test_compiling_leaves_the_settings_alone(variable, count, tmp_path):
    environment = {
        name: value for name, value in tool_environment().items()
        if name not in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_THREADING_LAYER")
    }  # fmt: skip
    environment |= {variable: str(count), "NUMBA_CACHE_DIR": str(tmp_path)}
    result = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    layer = threads.choose_layer()
    assert result.stdout.split() == [str(count), str(count), layer, "True"]


@pytest.mark.parametrize(
    ("variables", "patience"),
    [({}, str(threads.SPIN_ROUNDS)), ({"GOMP_SPINCOUNT": "77"}, "77"), ({"OMP_WAIT_POLICY": "passive"}, "0")],
    ids=["ours", "GOMP_SPINCOUNT", "OMP_WAIT_POLICY"],
)
def test_waiting_threads_sleep_soon_unless_the_user_says_otherwise(variables, patience):
    """libgomp tells its settings where OMP_DISPLAY_ENV asks for it."""
    environment = {**tool_environment(), "OMP_DISPLAY_ENV": "verbose", "NUMBA_THREADING_LAYER": "omp", **variables}
    program = "from caffetools.engine.cpu import threads; import os; print(os.environ.get('GOMP_SPINCOUNT'))"
    result = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    told = re.search(r"GOMP_SPINCOUNT = '(\d+)'", result.stderr)
    if not told:
        pytest.skip("no libgomp here")
    assert told[1] == patience
    assert result.stdout.strip() == str(variables.get("GOMP_SPINCOUNT"))
