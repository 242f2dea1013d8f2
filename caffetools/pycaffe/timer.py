"""Timer: a stop watch."""

from __future__ import annotations

from time import perf_counter


class Timer:
    """Measures the time from `start` to `stop`, or to now while it runs, in milliseconds."""

    def __init__(self) -> None:
        self._start: float | None = None
        self._stop: float | None = None

    def start(self) -> None:
        """Begin, anew if need be."""
        self._start, self._stop = perf_counter(), None

    def stop(self) -> None:
        """End."""
        self._stop = perf_counter()

    @property
    def ms(self) -> float:
        """The time in milliseconds, 0 before it was started."""
        if self._start is None:
            return 0.0
        return 1000 * ((perf_counter() if self._stop is None else self._stop) - self._start)
