"""Where compiled kernels are kept: per user, in a folder named after everything that a kernel may have inlined.

numba notices changes of the file that holds a kernel, but not of the files that the kernel calls into; the folder's
name covers those: the versions of caffetools, numba, llvmlite and NumPy, the vector width and the engine's sources.
Kernels elsewhere call those of their own file, of the engine and of the files that CALLED names.
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

import llvmlite
import numba
import numpy as np

import caffetools

# A folder on a disk with less room than this (bytes) is not used: numba stops where it cannot write.
ROOM = 64 << 20
# Folders of other versions that stay; older ones are removed when a new one is filled.
KEPT = 4
# Files outside the engine, in the package, whose kernels others call.
CALLED = ("layers/lstm_unit.py",)


def user_cache_dir() -> Path:
    """Return the folder where this user's programs keep what can be made again."""
    if os.environ.get("NUMBA_CACHE_DIR"):
        return Path(os.environ["NUMBA_CACHE_DIR"])
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def cache_key() -> str:
    """Return a name for the code that kernels of other files may have inlined."""
    digest = hashlib.sha256()
    width = os.environ.get("CAFFETOOLS_SIMD", "")
    versions = (module.__version__ for module in (caffetools, numba, llvmlite, np))
    for part in (*versions, width):
        digest.update(part.encode() + b"\0")
    engine = Path(__file__).parent
    for source in (*sorted(engine.rglob("*.py")), *(engine.parents[1] / name for name in CALLED)):
        digest.update(source.name.encode() + source.read_bytes())
    return digest.hexdigest()[:16]


def choose_folder() -> Path | None:
    """Return a folder that can be written: the user's, else a private one among the temporary files, else None."""
    for parent, private in ((user_cache_dir() / "caffetools", False), (_temporary_parent(), True)):
        folder = parent / cache_key()
        if _usable(parent, folder, private):
            return folder
    return None


def _temporary_parent() -> Path:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in containers
        user = str(os.getuid())
    return Path(tempfile.gettempdir()) / f"caffetools-{user}"


def _usable(parent, folder, private):
    try:
        parent.mkdir(mode=0o700 if private else 0o777, parents=True, exist_ok=True)
        if private and hasattr(os, "getuid"):
            status = parent.lstat()
            # Code is loaded from there: nobody else may have put it there.
            if parent.is_symlink() or status.st_uid != os.getuid() or status.st_mode & 0o022:
                return False
        folder.mkdir(exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            os.utime(folder)  # the mark by which `prune` knows what is in use
        return shutil.disk_usage(folder).free >= ROOM
    except (OSError, RuntimeError):
        return False


def prune(folder: Path) -> None:
    """Remove all but the last used folders of other versions beside `folder`."""
    with contextlib.suppress(OSError):
        named = [path for path in folder.parent.iterdir() if re.fullmatch("[0-9a-f]{16}", path.name)]
        others = [path for path in named if path != folder]
        others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for path in others[KEPT:]:
            shutil.rmtree(path, ignore_errors=True)
