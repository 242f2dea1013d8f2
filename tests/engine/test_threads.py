"""The choice of threads and of the threading layer."""

from __future__ import annotations

import os

import pytest

from caffetools.engine.cpu import threads


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
    ],
)
def test_cheapest_layer_that_loads_is_chosen(monkeypatch, loadable, wanted, layer):
    monkeypatch.setattr(threads, "_loads", loadable.__contains__)
    monkeypatch.setattr(threads, "_preload_tbb", lambda: False)
    monkeypatch.delenv("NUMBA_THREADING_LAYER", raising=False)
    if wanted:
        monkeypatch.setenv("NUMBA_THREADING_LAYER", wanted)
    assert threads.choose_layer() == layer
