"""Batches of a data layer's threads on a GPU: the next one is copied to the device while the net computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from caffetools.blob import Blob
from caffetools.engine.gpu.device import current
from caffetools.engine.gpu.events import Event
from caffetools.samples.batch import IN_FLIGHT, Batch
from caffetools.samples.feed_cu import Feed, wait_for
from caffetools.samples.prefetch import Prefetcher


class Ahead:
    """Feeds the tops of a layer from its prefetcher. tops: how many there are.

    All calls to the device are made by the thread that runs the net.
    """

    def __init__(self, tops: int, dtype):
        self.engine = current()
        self.feed = Feed(self.engine, tops, dtype)
        self.tops = tops
        self._prefetcher: Prefetcher | None = None
        self._copying: deque[tuple[Batch, Event]] = deque()
        self._events = [Event() for _ in range(IN_FLIGHT + 1)]
        self._ends: deque[Any] = deque()

    def show(self, prefetcher: Prefetcher, top: Sequence[Blob]) -> Any:
        """Let the tops have the next batch and send the one behind it, if it is ready; return the batch's `end`."""
        if prefetcher is not self._prefetcher:
            # The run goes on elsewhere: what was fetched from the old one is not wanted.
            self.feed.forget()
            self._ends.clear()
            self._prefetcher = prefetcher
            prefetcher.before_close = self._wait
        if not self.feed.ahead:
            self._send(prefetcher.fetch())
        self.feed.show(top)
        self._give_back()
        batch = prefetcher.fetch(wait=False)
        if batch is not None:
            self._send(batch)
        return self._ends.popleft()

    def _send(self, batch):
        # As many events as batches may be on their way, and one that is recorded now.
        event = self._events.pop()
        self.feed.send([blob.data for blob in batch.blobs[: self.tops]], event)
        self._copying.append((batch, event))
        self._ends.append(batch.end)
        self._give_back()

    def _give_back(self):
        """Let the threads fill what the device has copied; wait where too much is on its way."""
        while self._copying:
            batch, event = self._copying[0]
            if len(self._copying) > IN_FLIGHT:
                wait_for(self.engine, event)
            elif not event.done():
                return
            self._copying.popleft()
            self._events.append(event)
            self._prefetcher.give_back(batch)

    def _wait(self):
        """Wait for all copies: their sources go to other threads."""
        while self._copying:
            wait_for(self.engine, self._copying[0][1])
            self._events.append(self._copying.popleft()[1])
