"""The memory at hand, from made-up files of the system."""

from __future__ import annotations

import os

import pytest

from caffetools.tools.free_memory import free_memory

MEMINFO = "MemTotal:       16000 kB\nMemFree:         1000 kB\nMemAvailable:    8000 kB\n"
V1 = "sys/fs/cgroup/memory"


def system(root, **files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def container(limit, used, statistics="inactive_file 0\n"):
    return {
        "sys/fs/cgroup/memory.max": limit,
        "sys/fs/cgroup/memory.current": used,
        "sys/fs/cgroup/memory.stat": statistics,
    }


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 8000 * 1024),
        (container("max\n", "5000\n"), 8000 * 1024),
        (container("5000000\n", "1000000\n"), 4_000_000),
        (container("5000000\n", "4000000\n", "anon 7\ninactive_file 2500000\n"), 3_500_000),
        (container("5000000\n", "6000000\n"), 0),
        (container("999999999999\n", "1\n"), 8000 * 1024),
        (
            {
                f"{V1}/memory.limit_in_bytes": "3000000\n",
                f"{V1}/memory.usage_in_bytes": "1000000\n",
                f"{V1}/memory.stat": "cache 5\n",
            },
            2_000_000,
        ),
    ],
    ids=[
        "system",
        "unlimited",
        "limited",
        "cached files",
        "over the limit",
        "more than there is",
        "version 1",
    ],
)
def test_free_memory(tmp_path, files, expected):
    assert free_memory(system(tmp_path, **{"proc/meminfo": MEMINFO}, **files)) == expected


def test_without_proc_the_system_is_asked(tmp_path, monkeypatch):
    sizes = {"SC_AVPHYS_PAGES": 300, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(os, "sysconf", sizes.__getitem__)
    assert free_memory(tmp_path) == 300 * 4096


def test_a_system_that_does_not_tell(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "sysconf")
    assert free_memory(tmp_path) is None
