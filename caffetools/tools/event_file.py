"""Scalars for TensorBoard, through its own package where that is installed."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

from caffetools.formats.files import reason
from caffetools.glog import fatal, note, warning

if TYPE_CHECKING:
    from collections.abc import Mapping


class EventFile:
    """A new event file in a folder.

    start: the first iteration that it tells of; from there on it replaces what older files of the folder have.

    Events are written whole and at once: TensorBoard's own writer has a thread for that, which ends with a traceback
    on a full disk. Errors: FatalError if the file cannot be made; later a warning, and the file ends there.
    """

    def __init__(self, folder: Path, start: int):
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event, self._summary = event_pb2, summary_pb2
        # The form of the name is the package's; readers take the files in the order of their names.
        self.path = folder / f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.0"
        try:
            self._writer: RecordWriter | None = RecordWriter(open(self.path, "wb", buffering=0))  # noqa: SIM115
        except OSError as error:
            fatal(f"Cannot write {self.path}: {reason(error)}")
        self._add(event_pb2.Event(wall_time=time.time(), file_version="brain.Event:2"))
        if start:
            # Readers drop what earlier files have from this iteration on.
            session = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self._add(event_pb2.Event(wall_time=time.time(), step=start, session_log=session))

    def write(self, iteration: int, seconds: float, scalars: Mapping[str, float]) -> None:
        """Add values of an iteration, by their tags. seconds: the time of day, since 1970."""
        values = [self._summary.Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
        summary = self._summary.Summary(value=values)
        self._add(self._event.Event(wall_time=seconds, step=iteration, summary=summary))

    def _add(self, event):
        if self._writer is None:
            return
        try:
            self._writer.write(event.SerializeToString())
        except OSError as error:
            self.close()
            warning(f"Cannot write {self.path}: {reason(error)}. The run goes on without it.")

    def close(self) -> None:
        """Close the file; further values are dropped."""
        if self._writer is not None:
            with contextlib.suppress(OSError):
                self._writer.close()
            self._writer = None


def open_event_file(folder: Path, start: int) -> EventFile | None:
    """Return a new event file, or None with a note where the package is missing."""
    try:
        return EventFile(folder, start)
    except ImportError:
        note("No event files for TensorBoard: its package is not installed (pip install tensorboard)")
        return None
