"""Databases of records, LMDB and LevelDB, behind one small interface.

    with open_db("lmdb", "mnist_lmdb", "new") as db:
        db.put(b"00000000", record)

    with open_db("lmdb", "mnist_lmdb", "r") as db:
        for key, value in db: ...

Records are pairs of bytes, sorted by key. A cursor walks over them a step at a time, for readers that stop,
go on and start again.
"""

from __future__ import annotations

import os
from typing import Literal

from caffetools import glog
from caffetools.formats.db.base import Cursor, Database
from caffetools.formats.db.leveldb import LevelDB
from caffetools.formats.db.lmdb import LMDB
from caffetools.proto import caffe_pb2

__all__ = ["Cursor", "Database", "open_db"]

Mode = Literal["r", "new", "write"]

_BACKENDS: dict[str | int, type[Database]] = {
    "lmdb": LMDB,
    "leveldb": LevelDB,
    caffe_pb2.DataParameter.LMDB: LMDB,
    caffe_pb2.DataParameter.LEVELDB: LevelDB,
}


def open_db(
    backend: str | int, path: str | os.PathLike[str], mode: Mode = "r", overwrite: bool = False
) -> Database:
    """Open a database folder, and log that.

    :param backend: "lmdb", "leveldb", or the value of a DataParameter's ``backend``
    :param mode: "r" to read, which works on read-only folders and leaves no trace in them; "new" to build one
        that is not there yet; "write" to change one in place
    :param overwrite: with "new", replace a database that is there, once the new one is complete
    :raises FatalError: if that cannot be done, with what to do about it

    A new database grows in a folder ``PATH.partial`` beside its place and takes its name when it is closed,
    so that a run that is killed or fails leaves nothing under `path`. What a killed run left in
    ``PATH.partial`` is removed by the next one.
    """
    if backend not in _BACKENDS:
        glog.fatal(f"Unknown database backend: {backend} (known: lmdb, leveldb)")
    return _BACKENDS[backend](os.fspath(path), mode, overwrite)
