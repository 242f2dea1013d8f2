"""What a training run tells: the original's display lines, and a progress line under the log on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable

from caffetools import glog
from caffetools.glog import info
from caffetools.net import Net


def output_lines(kind: str, values: Iterable[tuple[str, float, float]]) -> None:
    """Log one line for each element of each output: `    Train net output #0: loss = 2.3 (* 1 = 2.3 loss)`.

    kind: "Train" or "Test". values: (blob name, value, loss weight).
    """
    for i, (name, value, weight) in enumerate(values):
        loss = f" (* {weight:g} = {weight * value:g} loss)" if weight else ""
        info(f"    {kind} net output #{i}: {name} = {value:g}{loss}")


class DataWait:
    """How long nets have waited for their data, from when this is made or `restart` is called."""

    WORTH_SAYING = 0.01  # share of the time between two display lines

    def __init__(self, nets: Iterable[Net]):
        self._layers = [layer for net in nets for layer in net.layers]
        self.restart()

    def restart(self) -> None:
        """Count from now on."""
        self._start = time.perf_counter()
        self._waited = self._total()

    def seconds(self) -> tuple[float, float]:
        """Return how long the nets have waited, and how much time has passed."""
        return self._total() - self._waited, time.perf_counter() - self._start

    def note(self, during: str = "") -> None:
        """Say which share of the time it was. during: of which time, where it is not that of the whole run."""
        waited, passed = self.seconds()
        share = waited / passed if passed > 0 else 0.0
        if not during:
            glog.note(f"Waiting for data took {share:.1%} of the time ({waited:.3g} s of {passed:.3g} s)")
        elif share >= self.WORTH_SAYING:
            glog.note(f"Waiting for data took {share:.1%} of {during}")

    def _total(self):
        return sum(layer.waited_seconds for layer in self._layers)


class DisplayLine:
    """The line `Iteration N (R iter/s, Ss/D iters), loss = L`, with the speed since the last one."""

    def __init__(self, iteration: int, nets: Iterable[Net] = ()):
        self.last_iteration = iteration
        self.last_time = time.perf_counter()
        self.wait = DataWait(nets)

    def show(self, iteration: int, display: int, loss: float) -> None:
        """Log the line. The first of a run has no iterations behind it and shows 0 iter/s (the original: garbage)."""
        now = time.perf_counter()
        seconds = now - self.last_time
        rate = (iteration - self.last_iteration) / seconds if seconds > 0 else 0.0
        info(f"Iteration {iteration} ({rate:g} iter/s, {seconds:g}s/{display} iters), loss = {loss:g}")
        self.last_iteration, self.last_time = iteration, now
        self.wait.note("the time since the last such line")
        self.wait.restart()


class Progress:
    """A line under the log with iteration, speed, loss and time left; nothing where stderr is not a terminal."""

    INTERVAL = 0.1  # seconds between two updates

    def __init__(self, start: int, end: int):
        self._bar = None
        self._shown = 0.0
        if end > start and sys.stderr is not None and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(
                initial=start,
                total=end,
                unit="it",
                file=sys.stderr,
                dynamic_ncols=True,
                leave=False,
                smoothing=0.1,
            )
            glog.set_stderr_hook(lambda: tqdm.external_write_mode(file=sys.stderr))

    def update(self, iteration: int, loss: float) -> None:
        """Show an iteration that is done, at most ten times a second."""
        if self._bar is None:
            return
        now = time.perf_counter()
        if now - self._shown >= self.INTERVAL:
            self._shown = now
            self._bar.set_postfix_str(f"loss={loss:.4g}", refresh=False)
            self._bar.update(iteration - self._bar.n)

    def close(self) -> None:
        """Take the line away."""
        if self._bar is not None:
            glog.set_stderr_hook(None)
            self._bar.close()
            self._bar = None


def memory_note(memories: Iterable[dict[str, int]]) -> None:
    """Say how much memory the nets of a run need, before it starts."""
    total: dict[str, int] = {}
    for memory in memories:
        for name, size in memory.items():
            total[name] = total.get(name, 0) + size
    parts = ", ".join(f"{size / 2**20:.1f} MiB for {name}" for name, size in total.items())
    glog.note(f"Memory needed: {parts}; {sum(total.values()) / 2**20:.1f} MiB in all")
