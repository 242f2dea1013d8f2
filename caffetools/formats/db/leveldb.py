"""LevelDB databases, with values compressed by snappy."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NoReturn

from caffetools import glog
from caffetools.formats.db.base import Cursor, Database, absence
from caffetools.formats.db.staging import Staging

if TYPE_CHECKING:
    import plyvel

# the original's settings
_OPTIONS = {"block_size": 65536, "write_buffer_size": 268435456, "max_open_files": 100}
_READ = {"verify_checksums": True, "fill_cache": False}


class LevelDBCursor(Cursor):
    """A cursor of LevelDB."""

    def __init__(self, db: plyvel.DB, fail: Callable[[str, Exception], NoReturn]) -> None:
        import plyvel

        self._iterator = db.raw_iterator(**_READ)
        self._error, self._fail = plyvel.Error, fail
        self.seek_to_first()

    def seek_to_first(self) -> None:
        try:
            self._iterator.seek_to_first()
        except self._error as err:
            self._fail("read", err)

    def seek(self, key: bytes) -> None:
        try:
            self._iterator.seek(key)
        except self._error as err:
            self._fail("read", err)

    def next(self) -> None:
        try:
            self._iterator.next()
        except self._error as err:
            self._fail("read", err)

    def valid(self) -> bool:
        return self._iterator.valid()

    def key(self) -> bytes:
        return self._iterator.key()

    def value(self) -> bytes:
        return self._iterator.value()


class LevelDB(Database):
    """A folder with a ``CURRENT``; see :func:`caffetools.formats.db.open_db`.

    LevelDB writes into the folder of a database even to read it, and lets one process in at a time. To read,
    a temporary folder of links to the database's files is opened instead, so that the database may be
    read-only or have several readers, and stays as it is. What is still in its write-ahead log is sorted into
    a table there, every time.
    """

    def __init__(self, path: str, mode: str, overwrite: bool) -> None:
        super().__init__(path)
        self._staging: Staging | None = None
        self._shadow: tempfile.TemporaryDirectory | None = None
        self._length: int | None = None
        self._closed = False
        if mode == "new":
            self._staging = Staging(path, overwrite, self._refuse)
            folder = self._staging.folder
        elif mode == "write":
            folder = path
        else:
            self._shadow = self._links()
            folder = self._shadow.name
        try:
            self._db = self._open(folder, create=mode != "r")
        except BaseException:
            self._clean()
            raise
        self._batch = self._db.write_batch()
        glog.info(f"Opened leveldb {path}")

    def cursor(self) -> LevelDBCursor:
        return LevelDBCursor(self._readable(), self._fail)

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        self._readable()
        return self._records()

    def __len__(self) -> int:
        if self._length is None:
            length = sum(1 for _ in self._records())
            if self._shadow is None:
                return length
            self._length = length
        return self._length

    def _records(self) -> Iterator[tuple[bytes, bytes]]:
        with self._errors("read"):
            # plyvel's other iterator passes over damaged blocks in silence
            iterator = self._db.raw_iterator(**_READ)
            iterator.seek_to_first()
            while iterator.valid():
                yield iterator.item()
                iterator.next()

    def put(self, key: bytes, value: bytes) -> None:
        self._batch.put(key, value)

    def commit(self) -> None:
        with self._errors("write"):
            self._batch.write()
        self._batch.clear()

    def close(self) -> None:
        if self._closed:
            return
        if self._shadow:
            self.discard()
            return
        try:
            self.commit()
            self._db.close()
            if self._staging:
                self._open(self._staging.folder, create=False).close()  # which sorts its log into a table
        except BaseException:
            self.discard()
            raise
        self._closed = True
        if self._staging:
            self._staging.publish()

    def discard(self) -> None:
        if not self._closed:
            self._closed = True
            self._db.close()
            self._clean()

    def _clean(self) -> None:
        if self._shadow:
            self._shadow.cleanup()
        if self._staging:
            self._staging.discard()

    def _readable(self) -> plyvel.DB:
        if self._shadow is None:
            glog.fatal(f"{self.path} is open to be written, and cannot be read at the same time")
        return self._db

    def _links(self) -> tempfile.TemporaryDirectory:
        """A temporary folder with links to the files of the database, but not to its lock and its own log."""
        reason = absence(self.path, "leveldb")
        if reason:
            self._refuse(reason)
        shadow = tempfile.TemporaryDirectory(prefix="caffetools_leveldb_", ignore_cleanup_errors=True)
        for name in os.listdir(self.path):
            if name not in ("LOCK", "LOG", "LOG.old"):
                os.symlink(os.path.abspath(os.path.join(self.path, name)), os.path.join(shadow.name, name))
        return shadow

    def _open(self, folder: str, create: bool) -> plyvel.DB:
        try:
            import plyvel
        except ImportError:
            self._refuse(
                "the package plyvel is not installed: pip install plyvel, or use LMDB, which works everywhere"
                " (--backend=lmdb; in a net, backend: LMDB)"
            )
        try:
            return plyvel.DB(folder, create_if_missing=create, **_OPTIONS)
        except plyvel.Error as err:
            self._refuse(self._said(err))

    def _refuse(self, reason: str) -> NoReturn:
        glog.check(False, "status.ok()", f"Failed to open leveldb {self.path} ({reason})")

    def _said(self, err: Exception) -> str:
        """LevelDB's words, with the database's own name in place of a temporary one."""
        text = os.fsdecode(err.args[0]) if err.args and isinstance(err.args[0], bytes) else str(err)
        for folder in (self._staging and self._staging.folder, self._shadow and self._shadow.name):
            text = text.replace(folder, self.path) if folder else text
        return text

    @contextlib.contextmanager
    def _errors(self, action: str) -> Iterator[None]:
        import plyvel

        try:
            yield
        except plyvel.Error as err:
            self._fail(action, err)

    def _fail(self, action: str, err: Exception) -> NoReturn:
        glog.check(False, "status.ok()", f"Cannot {action} leveldb {self.path}: {self._said(err)}")
