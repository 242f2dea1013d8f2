"""Scalars for TensorBoard, through its own package where that is installed."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from caffetools.glog import note

if TYPE_CHECKING:
    from collections.abc import Mapping

_FLUSH = 10  # seconds between two times that what is new goes to the disk


class EventFile:
    """A new event file in a folder.

    start: the first iteration that it tells of; from there on it replaces what older files of the folder have.
    """

    def __init__(self, folder: Path, start: int):
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._event, self._summary = event_pb2, summary_pb2
        self._writer = EventFileWriter(str(folder), flush_secs=_FLUSH)
        if start:
            # Readers drop what earlier files have from this iteration on.
            session = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self._writer.add_event(event_pb2.Event(step=start, session_log=session))

    def write(self, iteration: int, seconds: float, scalars: Mapping[str, float]) -> None:
        """Add values of an iteration, by their tags. seconds: the time of day, since 1970."""
        values = [self._summary.Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
        summary = self._summary.Summary(value=values)
        self._writer.add_event(self._event.Event(wall_time=seconds, step=iteration, summary=summary))

    def close(self) -> None:
        """Write what is waiting, and close the file."""
        with contextlib.suppress(OSError):
            self._writer.close()


def open_event_file(folder: Path, start: int) -> EventFile | None:
    """Return a new event file, or None with a note where the package is missing."""
    try:
        return EventFile(folder, start)
    except ImportError:
        note("No event files for TensorBoard: its package is not installed (pip install tensorboard)")
        return None
