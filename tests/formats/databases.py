"""Recorded and small databases, and what the tests of both backends do with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from caffetools.formats.db import open_db
from caffetools.glog import FatalError

from .conftest import FORMATS

BACKENDS = ["lmdb", "leveldb"]
RECORDED = {"lmdb": FORMATS / "mnist_train_lmdb", "leveldb": FORMATS / "mnist_train_leveldb"}
RECORDS = [(f"{number:03d}".encode(), bytes([number]) * (number + 1)) for number in range(20)]


def other(backend):
    return BACKENDS[1 - BACKENDS.index(backend)]


def contents(backend, path):
    with open_db(backend, path) as db:
        return list(db)


def build(backend, path, records=RECORDS, **options):
    with open_db(backend, path, "new", **options) as db:
        for key, value in records:
            db.put(key, value)


def everything(folder):
    """Names and bytes of the files in a folder."""
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def failure(backend, path, mode="r", **options):
    """Why a database cannot be opened."""
    with pytest.raises(FatalError) as error:
        open_db(backend, path, mode, **options)
    return str(error.value)
