"""Files that appear complete or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator

from caffetools import glog


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[str]:
    """Yield the name of a temporary sibling of `path`, for the body to write; it becomes `path` at the end.

    The file is flushed to the disk before it takes the name, so that neither a kill nor a power cut leaves
    half a file, and whatever was at `path` stays untouched until then. If the body or any step fails, the
    temporary file is removed.

    Writers may be nested: a name that an outer call has yielded is written directly, and errors name the
    outer call's `path`. So several files can be prepared, to appear together at the end.

    A symbolic link is followed, the mode of an existing file is kept, and a device or pipe (``/dev/stdout``)
    is written directly.

    :raises FatalError: for every OSError, naming `path` and the reason (no space left, no such folder, ...)
    """
    path = os.fspath(path)
    if path in _prepared or (os.path.exists(path) and not os.path.isfile(path)):
        with write_errors(final_name(path)):
            yield path
        return
    target = os.path.realpath(path)
    mode = os.stat(target).st_mode & 0o7777 if os.path.exists(target) else None
    if mode is not None and not os.access(target, os.W_OK):  # a rename would get round the write protection
        glog.fatal(f"Cannot write {path}: {os.strerror(errno.EACCES)}")
    temporary = os.path.join(
        os.path.dirname(target), f".{os.path.basename(target)}.{secrets.token_hex(4)}.tmp"
    )
    _prepared[temporary] = path
    try:
        with write_errors(path):
            yield temporary
            sync(temporary)
            if mode is not None:
                os.chmod(temporary, mode)
            os.replace(temporary, target)
            sync_folder(os.path.dirname(target))
    finally:
        del _prepared[temporary]
        with contextlib.suppress(OSError):
            os.unlink(temporary)


_prepared: dict[str, str] = {}  # temporary names in use, and what they will become


def final_name(path: str | os.PathLike[str]) -> str:
    """The name that a file will have: `path`, unless :func:`atomic_path` has yielded that."""
    path = os.fspath(path)
    return _prepared.get(path, path)


@contextlib.contextmanager
def write_errors(path: str) -> Iterator[None]:
    """Turn an OSError of the body into a FatalError about writing `path`."""
    try:
        yield
    except OSError as err:
        glog.fatal(f"Cannot write {path}: {reason(err)}")


def reason(err: OSError) -> str:
    """Why the system refused (``No space left on device``), without what Python adds to it."""
    return os.strerror(err.errno) if err.errno else str(err)


def sync(path: str) -> None:
    """Wait until the contents of a file are on the disk."""
    fd = os.open(path, os.O_RDWR)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_folder(path: str) -> None:
    """Wait until the names in a folder are on the disk, where the system can tell (Windows cannot)."""
    if os.name == "nt":
        return
    fd = os.open(path, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(fd)
    finally:
        os.close(fd)


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """The contents of a file.

    :raises FatalError: in the words of the original, whose reader opened a file descriptor first
    """
    path = os.fspath(path)
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        glog.fatal(f"Check failed: fd != -1 (-1 vs. -1) File not found: {path}")
    except OSError as err:
        glog.fatal(f"Check failed: fd != -1 (-1 vs. -1) File not found: {path} ({reason(err)})")
