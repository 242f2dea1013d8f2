"""What is counted about the device, and points in its streams that can be waited for."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numba
from numba import cuda


def simulated() -> bool:
    """Whether kernels run in numba's simulator, on the host."""
    return bool(numba.config.ENABLE_CUDASIM)


@dataclass
class Counters:
    """What costs time inside an iteration without anybody having asked for it.

    allocations: of device or pinned memory. uploads, downloads: copies that a blob's states made. synchronisations: how
    often the host waited for the device.
    """

    allocations: int = 0
    uploads: int = 0
    downloads: int = 0
    synchronisations: int = 0

    def reset(self) -> None:
        """Count from zero again."""
        for field in fields(self):
            setattr(self, field.name, 0)


class Event:
    """A point in a stream that the host or another stream can wait for.

    timed: whether the time between it and another one can be asked for, which makes it slower.
    """

    def __init__(self, timed: bool = False):
        self._event = cuda.event(timing=timed) if not simulated() else None

    def record(self, stream) -> None:
        """Mark the present end of a stream."""
        if self._event is not None:
            self._event.record(stream)

    def done(self) -> bool:
        """Whether everything before the mark is done."""
        return self._event is None or self._event.query()

    def wait(self) -> None:
        """Make the host wait for the mark."""
        if self._event is not None:
            self._event.synchronize()

    def seconds_until(self, later: Event) -> float:
        """Return the time between two timed marks that have been reached; the simulator has none: 0."""
        if self._event is None:
            return 0.0
        return cuda.event_elapsed_time(self._event, later._event) / 1000

    def hold(self, stream) -> None:
        """Make a stream wait for the mark; the host goes on."""
        if self._event is not None:
            self._event.wait(stream)
