"""The log files of glog: names, links, headers, buffering and roll-over.

    <folder>/<program>.<host>.<user>.log.<SEVERITY>.<YYYYMMDD-HHMMSS>.<pid>

with a link ``<folder>/<program>.<SEVERITY>`` to the newest one. Nothing here may end or hold up a run: a
folder that cannot be written, or a disk that is full, costs log lines and no more.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable
from typing import Any

_CREATE_AGAIN_AFTER = 32  # messages, when a file could not be created
_FLUSH_BYTES = 1_000_000
# the name is easy to guess and the folder often everybody's: never write through a link laid there
_OPEN = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


class LogFile:
    """The file of one severity: made on its first message, begun anew when it has grown to --max_log_size.

    :param flags: the logging flags, read at every message
    :param complain: where to say that no file could be created
    """

    def __init__(self, program: str, severity: str, flags: Any, complain: Callable[[str], None]) -> None:
        self.program = program
        self.severity = severity
        self.flags = flags
        self.complain = complain
        self.fd = -1
        self.pid = os.getpid()
        self.length = 0
        self.pending = bytearray()
        self.flush_due = 0.0
        self.disk_full = False
        self.attempt = _CREATE_AGAIN_AFTER - 1

    def write(self, message: str, at_once: bool) -> None:
        """Append a message; `at_once` writes it and all that is buffered to the disk."""
        if self.length >> 20 >= self._megabytes() or self.pid != os.getpid():
            self.close()
        if self.fd < 0 and not self._create():
            return
        if self.disk_full and time.monotonic() < self.flush_due:
            return
        self.disk_full = False
        self._append(message)
        if at_once or len(self.pending) >= _FLUSH_BYTES or time.monotonic() >= self.flush_due:
            self.flush()

    def flush(self) -> None:
        """Write what is buffered."""
        if self.fd < 0 or self.pid != os.getpid():  # after a fork the buffered lines are the parent's
            return
        self.flush_due = time.monotonic() + self.flags.logbufsecs
        try:
            while self.pending:
                del self.pending[: os.write(self.fd, self.pending)]
        except OSError as err:
            self.disk_full = self.flags.stop_logging_if_full_disk and err.errno == errno.ENOSPC
            self.pending.clear()
        if self.flags.drop_log_memory and hasattr(os, "posix_fadvise"):
            with contextlib.suppress(OSError):
                os.posix_fadvise(self.fd, 0, self.length & ~4095, os.POSIX_FADV_DONTNEED)

    def close(self) -> None:
        """Flush and close; the next message begins a new file."""
        self.flush()
        if self.fd >= 0:
            os.close(self.fd)
        self.fd, self.pid, self.length = -1, os.getpid(), 0
        self.pending.clear()
        self.attempt = _CREATE_AGAIN_AFTER - 1

    def _megabytes(self) -> int:
        return self.flags.max_log_size if 0 < self.flags.max_log_size < 4096 else 1

    def _append(self, text: str) -> None:
        data = text.encode("utf-8", "backslashreplace")
        self.pending += data
        self.length += len(data)

    def _create(self) -> bool:
        self.attempt += 1
        if self.attempt < _CREATE_AGAIN_AFTER:
            return False
        self.attempt = 0
        now = time.localtime()
        stamp = f"{time.strftime('%Y%m%d-%H%M%S', now)}.{self.pid}"
        name = f"{self.program}.{hostname()}.{_user()}.log.{self.severity}.{stamp}"
        reason = ""
        for folder in _folders(self.flags.log_dir):
            path = os.path.join(folder, name)
            try:
                self.fd = os.open(path, _OPEN, 0o664)
            except OSError as err:
                reason = f"{reason}Could not create logging file: {path}: {err.strerror}\n"
            else:
                self._link(path)
                self._write_header(now)
                return True
        self.complain(f"{reason}COULD NOT CREATE A LOGGINGFILE {stamp}!\n")
        return False

    def _link(self, path: str) -> None:
        """Let ``<program>.<SEVERITY>`` point at the file: beside it (relative) and in --log_link."""
        name = f"{self.program}.{self.severity}"
        links = [(os.path.join(os.path.dirname(path), name), os.path.basename(path))]
        if self.flags.log_link:
            links.append((os.path.join(self.flags.log_link, name), os.path.abspath(path)))
        for link, target in links:
            with contextlib.suppress(OSError):  # a file system without links: the log itself is what counts
                if os.path.lexists(link):
                    os.unlink(link)
                os.symlink(target, link)

    def _write_header(self, now: time.struct_time) -> None:
        day = "yyyymmdd" if self.flags.log_year_in_prefix else "mmdd"
        self._append(
            f"Log file created at: {time.strftime('%Y/%m/%d %H:%M:%S', now)}\n"
            f"Running on machine: {hostname()}\n"
            f"Log line format: [IWEF]{day} hh:mm:ss.uuuuuu threadid file:line] msg\n"
        )
        self.flush()


def hostname() -> str:
    """This machine's name."""
    return os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "unknown")


def _user() -> str:
    name = os.environ.get("USERNAME" if os.name == "nt" else "USER", "")
    if not name and os.name != "nt":
        import pwd

        with contextlib.suppress(KeyError):
            name = pwd.getpwuid(os.getuid()).pw_name
    return name or "invalid-user"


def _folders(log_dir: str) -> list[str]:
    """Folders to try in order: --log_dir alone if given, else the temporary ones and the current one."""
    if log_dir:
        return [log_dir]
    names = ("TMP", "TEMP", "USERPROFILE") if os.name == "nt" else ("TEST_TMPDIR", "TMPDIR", "TMP")
    folders = [os.environ[name] for name in names if os.environ.get(name)]
    return [*folders, *([] if os.name == "nt" else ["/tmp"]), "."]
