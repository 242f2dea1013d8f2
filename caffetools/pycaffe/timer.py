"""Timer: a stop watch."""

from __future__ import annotations

from caffetools.pycaffe import mode
from caffetools.tools.time import DeviceClock, HostClock


class Timer:
    """Measures the time from `start` to `stop`, or to now while it runs, in milliseconds.

    On a GPU it is the time of what was started on the device between the two.
    """

    def __init__(self) -> None:
        self._clock: HostClock | DeviceClock = HostClock()
        self._start: object | None = None
        self._stop: object | None = None

    def start(self) -> None:
        """Begin, anew if need be."""
        engine = mode.engine()
        # The simulator's events have no times.
        self._clock = HostClock() if engine is None or engine.simulated else DeviceClock(engine)
        self._start, self._stop = self._clock.mark(), None

    def stop(self) -> None:
        """End."""
        self._stop = self._clock.mark()

    @property
    def ms(self) -> float:
        """The time in milliseconds, 0 before it was started; on a GPU this waits for the device."""
        if self._start is None:
            return 0.0
        stop = self._clock.mark() if self._stop is None else self._stop
        self._clock.settle()
        return 1000 * self._clock.seconds(self._start, stop)
