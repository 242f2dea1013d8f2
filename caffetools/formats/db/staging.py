"""Folders that appear complete or not at all."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from typing import NoReturn

from caffetools.formats import files

#: Names of files that LMDB and LevelDB make: nothing else is ever deleted.
_DATABASE_FILE = re.compile(
    r"data\.mdb|lock\.mdb|CURRENT|LOCK|LOG(\.old)?|MANIFEST-\d+|\d+\.(log|ldb|sst|dbtmp)|lost"
)

Refuse = Callable[[str], NoReturn]


class Staging:
    """The folder ``PATH.partial``, in which a database grows until it can take the name `path`.

    :param overwrite: replace a database that is at `path`
    :param refuse: raises, with the reason why the database cannot be made
    """

    def __init__(self, path: str, overwrite: bool, refuse: Refuse) -> None:
        self.target = os.path.normpath(path)
        self.folder = self.target + ".partial"
        self._aside = self.target + ".replaced"
        self._overwrite = overwrite
        self._refuse = refuse
        self._check_target(": delete it, or choose another name")
        try:
            self._lock = self._claim()
        except OSError as err:
            refuse(files.reason(err))

    def publish(self) -> None:
        """Give the folder, whose files must be closed, its name; where that fails, it stays what it is."""
        where = f"the new one is complete in {self.folder}"
        try:
            for name in os.listdir(self.folder):
                files.sync(os.path.join(self.folder, name))
            self._check_target(f"; {where}")
            if os.path.exists(self.target):
                self._replace()
            else:
                os.rename(self.folder, self.target)
            files.sync_folder(os.path.dirname(self.target) or ".")
        except OSError as err:
            self._refuse(f"{files.reason(err)}; {where}")
        finally:
            self._release()

    def discard(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._release()

    def _replace(self) -> None:
        os.rename(self.target, self._aside)
        try:
            os.rename(self.folder, self.target)
        except OSError:
            os.rename(self._aside, self.target)
            raise
        shutil.rmtree(self._aside)

    def _check_target(self, advice: str) -> None:
        if not os.path.lexists(self.target):
            return
        if not self._overwrite:
            self._refuse(f"it exists{advice}")
        if not _is_database(self.target):
            self._refuse(f"it is no database, so that nothing may replace it{advice}")
        if os.path.lexists(self._aside):
            self._refuse(f"{self._aside} is in the way: move it")

    def _claim(self) -> int | None:
        """Make the folder, and lock it where the system can: a locked one belongs to a run that is alive."""
        if os.path.lexists(self.folder):
            if not _is_database(self.folder):
                self._refuse(f"{self.folder} is in the way and is no database: move it")
            lock = self._try_lock()
            shutil.rmtree(self.folder)
            if lock is not None:
                os.close(lock)
        os.mkdir(self.folder)
        return self._try_lock()

    def _try_lock(self) -> int | None:
        if os.name == "nt":
            return None
        import fcntl

        lock = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            self._refuse(f"another run is writing it, in {self.folder}")
        except OSError:  # a file system without locks
            os.close(lock)
            return None
        return lock

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _is_database(folder: str) -> bool:
    """Whether a folder holds the files of a database, or nothing."""
    return os.path.isdir(folder) and all(_DATABASE_FILE.fullmatch(name) for name in os.listdir(folder))
