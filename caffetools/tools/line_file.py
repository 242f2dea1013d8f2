"""Text files that grow by whole lines: whatever ends the program, no line is cut."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from caffetools.formats.files import atomic_path, reason
from caffetools.glog import fatal, warning


class LineFile:
    """A file that lines are added to.

    keep: which lines that are there already stay, None for all; a last line without its end goes. Errors: FatalError if
    it cannot be opened. A line that cannot be written later, on a full disk, is a warning, and the file ends there.
    """

    def __init__(self, path: Path, keep: Callable[[str], bool] | None = None):
        self.path = path
        if path.exists():
            self._clean(keep)
        try:
            self._file: int | None = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        except OSError as error:
            fatal(f"Cannot write {path}: {reason(error)}")

    def _clean(self, keep):
        text = self.path.read_text(encoding="utf-8")
        lines = text.splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and (keep is None or keep(line))]
        if kept != lines:
            with atomic_path(self.path) as temporary:
                Path(temporary).write_text("".join(kept), encoding="utf-8")

    @property
    def empty(self) -> bool:
        """Whether it has no line yet."""
        return self._file is not None and os.fstat(self._file).st_size == 0

    def write(self, line: str) -> None:
        """Add a line, in one call to the system: a program that is killed has written all of it or nothing."""
        if self._file is None:
            return
        data = f"{line}\n".encode()
        size = os.fstat(self._file).st_size
        try:
            if os.write(self._file, data) == len(data):
                return
            why = "No space left on device"
        except OSError as error:
            why = reason(error)
        with contextlib.suppress(OSError):
            os.ftruncate(self._file, size)
        self.close()
        warning(f"Cannot write {self.path}: {why}. The run goes on without it.")

    def close(self) -> None:
        """Close it; further lines are dropped."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
