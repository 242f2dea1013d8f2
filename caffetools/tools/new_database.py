"""Databases that tools make: what to do about one that is there, and commits of bounded size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from caffetools.formats.db import Database, open_db
from caffetools.formats.db.base import kind_of
from caffetools.glog import FatalError

#: Records and bytes after which is committed, whichever comes first.
_RECORDS = 1000
_BYTES = 4 << 20


class Writer:
    """Puts records into a database and commits now and then.

    db: open to be written. count: the number of records so far.
    """

    def __init__(self, db: Database):
        self.db = db
        self.count = 0
        self._pending = 0

    def put(self, key: bytes, value: bytes) -> None:
        """Store a record."""
        self.db.put(key, value)
        self.count += 1
        self._pending += len(value)
        if self.count % _RECORDS == 0 or self._pending >= _BYTES:
            self.db.commit()
            self._pending = 0


@contextmanager
def new_database(backend: str, path: str, force: bool = False) -> Iterator[Writer]:
    """Make a database, which takes its name when the body ends; if it fails, nothing is left.

    backend: "lmdb" or "leveldb". force: replace one of this name, once the new one is complete.
    Errors: FatalError for an unknown backend and for a database that cannot be made, or exists without `force`.
    """
    try:
        db = open_db(backend, path, "new", overwrite=force)
    except FatalError as err:
        if not force and kind_of(path):
            err.args = (f"{err}. To replace it, use --force",)
        raise
    with db:
        yield Writer(db)
