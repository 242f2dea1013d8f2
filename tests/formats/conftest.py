"""What the tests of formats share."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from caffetools import glog

GOLDEN = Path(__file__).parents[1] / "golden"
FORMATS = GOLDEN / "formats"


@pytest.fixture(params=["lmdb", "leveldb"])
def backend(request):
    """Both kinds of database, where their libraries are installed."""
    pytest.importorskip({"lmdb": "lmdb", "leveldb": "plyvel"}[request.param])
    return request.param


@pytest.fixture
def logged(monkeypatch):
    """The messages that are logged, as pairs of severity and text."""
    messages = []
    for name in ("info", "warning", "error"):
        monkeypatch.setattr(glog, name, lambda text, name=name: messages.append((name, text)))
    return messages


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MiB."""
    try:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", tmp_path], capture_output=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting is not permitted")
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)
