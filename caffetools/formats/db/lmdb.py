"""LMDB databases."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NoReturn

from caffetools import glog
from caffetools.formats.db.base import Cursor, Database, absence
from caffetools.formats.db.staging import Staging

if TYPE_CHECKING:
    import lmdb

#: Size of the memory map that a new database starts with, in bytes; doubled whenever it is full.
FIRST_MAP_SIZE = 16 << 20
#: Bytes after which a new database begins to be written to the disk.
_WRITE_BACK = 8 << 20


class LMDBCursor(Cursor):
    """A cursor of LMDB. Keys and values are copies: one that LMDB lends would crash who keeps it too long."""

    def __init__(self, transaction: lmdb.Transaction, fail: Callable[[str, Exception], NoReturn]) -> None:
        import lmdb

        self._cursor = transaction.cursor()
        self._error, self._fail = lmdb.Error, fail
        self.seek_to_first()

    def seek_to_first(self) -> None:
        try:
            self._valid = self._cursor.first()
        except self._error as err:
            self._fail("read", err)

    def seek(self, key: bytes) -> None:
        try:
            self._valid = self._cursor.set_range(key)
        except self._error as err:
            self._fail("read", err)

    def next(self) -> None:
        try:
            self._valid = self._cursor.next()
        except self._error as err:
            self._fail("read", err)

    def valid(self) -> bool:
        return self._valid

    def key(self) -> bytes:
        return self._cursor.key()

    def value(self) -> bytes:
        return self._cursor.value()


class LMDB(Database):
    """A folder with a ``data.mdb``; see :func:`caffetools.formats.db.open_db`."""

    def __init__(self, path: str, mode: str, overwrite: bool) -> None:
        super().__init__(path)
        self._staging: Staging | None = None
        self._reader: lmdb.Transaction | None = None
        self._pending: list[tuple[bytes, bytes]] = []
        self._closed = False
        self._written = 0
        if mode == "new":
            self._staging = Staging(path, overwrite, self._refuse_new)
            # nobody else knows of the folder: it needs no lock file, and is synchronised when it is complete
            folder, options = self._staging.folder, {"map_size": FIRST_MAP_SIZE, "lock": False, "sync": False}
            try:
                self._env = self._open(folder, **options)
            except BaseException:
                self._staging.discard()
                raise
        else:
            reason = absence(path, "lmdb")
            if reason:
                glog.check_eq(2, 0, "mdb_status == 0", f"No such file or directory ({reason})")
            self._env = _SHARED.acquire(path, self._open_to_read) if mode == "r" else self._open(path)
            if mode == "r":
                self._reader = self._env.begin()
        glog.info(f"Opened lmdb {path}")

    def cursor(self) -> LMDBCursor:
        return LMDBCursor(self._readable(), self._fail)

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        with self._errors("read"):
            yield from self._readable().cursor()

    def __len__(self) -> int:
        return self._env.stat()["entries"]

    def put(self, key: bytes, value: bytes) -> None:
        limit = self._env.max_key_size()
        if not 0 < len(key) <= limit:
            glog.fatal(
                f"LMDB takes keys of 1 to {limit} bytes, not of {len(key)}: {key.decode(errors='replace')}"
            )
        self._pending.append((key, value))

    def commit(self) -> None:
        import lmdb

        self._make_room()
        while self._pending:
            with self._errors("write"):
                try:
                    with self._env.begin(write=True) as transaction:
                        for key, value in self._pending:
                            transaction.put(key, value)
                    self._pending.clear()
                except lmdb.MapFullError:  # nothing was stored: enlarge the map and do it again
                    self._env.set_mapsize(2 * self._env.info()["map_size"])
        if self._staging:
            self._begin_writing_back()

    def _begin_writing_back(self) -> None:
        """Let the disk have what was stored since the last time, so that there is little to wait for at the end."""
        if not hasattr(os, "posix_fadvise"):
            return
        end = (self._env.info()["last_pgno"] + 1) * self._env.stat()["psize"]
        if end - self._written >= _WRITE_BACK:
            # Linux begins to write such pages; those that are not on the disk yet it does not forget.
            with open(os.path.join(self._staging.folder, "data.mdb"), "rb") as file:
                os.posix_fadvise(file.fileno(), self._written, end - self._written, os.POSIX_FADV_DONTNEED)
            self._written = end

    def _make_room(self) -> None:
        """Enlarge the map to what the pending records will probably take: one that is full costs a commit."""
        info, page = self._env.info(), self._env.stat()["psize"]
        used = (info["last_pgno"] + 1) * page
        # large values have pages of their own, small ones share pages that stay half empty at worst
        needed = used + sum(
            2 * len(value) if len(value) < page else len(value) + page for _, value in self._pending
        )
        size = info["map_size"]
        while size < needed:
            size *= 2
        if size > info["map_size"]:
            self._env.set_mapsize(size)

    def close(self) -> None:
        if self._closed:
            return
        try:
            self.commit()
        except BaseException:
            self.discard()
            raise
        self._end()
        if self._staging:
            self._staging.publish()

    def discard(self) -> None:
        if self._closed:
            return
        self._end()
        if self._staging:
            self._staging.discard()

    def _end(self) -> None:
        self._closed = True
        if self._reader is None:
            self._env.close()
        else:
            self._reader.abort()
            _SHARED.release(self._env)

    def _readable(self) -> lmdb.Transaction:
        if self._reader is None:  # growing its map under a reader would crash it
            glog.fatal(f"{self.path} is open to be written, and cannot be read at the same time")
        return self._reader

    def _open_to_read(self) -> lmdb.Environment:
        """Open without a lock file, which a read-only folder would not take; check that the file is whole."""
        env = self._open(self.path, readonly=True, lock=False)
        promised = (env.info()["last_pgno"] + 1) * env.stat()["psize"]
        stored = os.path.getsize(os.path.join(self.path, "data.mdb"))
        if stored < promised:  # reading what is not there would end in a bus error
            env.close()
            glog.fatal(f"{self.path} is truncated: data.mdb has {stored} of {promised} bytes")
        return env

    def _open(self, folder: str, **options: object) -> lmdb.Environment:
        import lmdb

        try:
            return lmdb.open(folder, create=self._staging is not None, **options)
        except lmdb.Error as err:
            glog.check(False, "mdb_status == 0", f"Cannot open lmdb {self.path}: {err}")

    def _refuse_new(self, reason: str) -> NoReturn:
        message = f"mkdir {self.path} failed ({reason})"
        glog.check_eq(-1, 0, "mkdir(source.c_str(), 0744) == 0", message)

    @contextlib.contextmanager
    def _errors(self, action: str) -> Iterator[None]:
        import lmdb

        try:
            yield
        except lmdb.Error as err:
            self._fail(action, err)

    def _fail(self, action: str, err: Exception) -> NoReturn:
        reason = str(err)
        if action == "write" and shutil.disk_usage(self._env.path()).free < 1 << 20:
            reason += f" ({os.strerror(errno.ENOSPC)})"  # which LMDB calls an input/output error
        glog.check(False, "mdb_status == 0", f"Cannot {action} lmdb {self.path}: {reason}")


class _SharedEnvironments:
    """Environments opened to be read: LMDB wants one for a file in a process, but two layers may read it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users: dict[str, int] = {}
        self._environments: dict[str, lmdb.Environment] = {}

    def acquire(self, path: str, opener: Callable[[], lmdb.Environment]) -> lmdb.Environment:
        file = os.path.realpath(os.path.join(path, "data.mdb"))
        with self._lock:
            if file not in self._environments:
                self._environments[file] = opener()
            self._users[file] = self._users.get(file, 0) + 1
            return self._environments[file]

    def release(self, env: lmdb.Environment) -> None:
        with self._lock:
            (file,) = (file for file, shared in self._environments.items() if shared is env)
            self._users[file] -= 1
            if not self._users[file]:
                del self._users[file], self._environments[file]
                env.close()


_SHARED = _SharedEnvironments()
