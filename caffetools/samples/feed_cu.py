"""Batches on their way to the device: each is copied on the copy stream while the net computes with the one before.

Every top has two places on the device. What keeps a batch from being overwritten while it is in use, and from being
used before it is there, are events between the two streams; the host waits for neither:

    compute stream   | batch 0 ........... | batch 1 ........... | batch 2 ...
    copy stream      0 | 1 (place B)       | 2 (place A)         | 3 (place B)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from caffetools.blob import Blob, Storage
from caffetools.engine.gpu.device import Engine, current
from caffetools.engine.gpu.events import Event
from caffetools.engine.gpu.memory import pinned_array

PLACES = 2
#: Arrays on the host for each top: the host may be some passes ahead of the device.
STAGES = 3


class Feed:
    """The tops of one layer, which show one batch after another. tops: how many there are."""

    def __init__(self, engine: Engine, tops: int, dtype):
        self.engine = engine
        self._places = [_Place(engine, tops, dtype) for _ in range(PLACES)]
        self._sent = self._shown = 0

    @property
    def ahead(self) -> int:
        """How many batches were sent that no pass has seen."""
        return self._sent - self._shown

    def send(self, arrays: Sequence[np.ndarray], read: Event) -> None:
        """Start the copy of a batch, at most one before it is shown.

        arrays: one for each top, in page-locked memory, which must stay as it is until `read` is done.
        """
        assert self.ahead < PLACES
        place = self._places[self._sent % PLACES]
        stream = self.engine.copy_stream
        place.used.hold(stream)
        for blob, values in zip(place.blobs, arrays, strict=True):
            blob.reshape(values.shape)
            blob.data_storage.receive(values.reshape(-1), stream)
        place.there.record(stream)
        read.record(stream)
        self._sent += 1

    def show(self, top: Sequence[Blob]) -> None:
        """Let the tops have the next batch that was sent; what starts on the compute stream now waits for it."""
        stream = self.engine.stream
        if self._shown:
            # All that has used the batch before is on the stream already.
            self._places[(self._shown - 1) % PLACES].used.record(stream)
        place = self._places[self._shown % PLACES]
        place.there.hold(stream)
        for blob, values in zip(top, place.blobs, strict=True):
            blob.reshape_like(values)
            blob.share_data(values)
        self._shown += 1

    def forget(self) -> None:
        """Let go of the batches that were sent and not shown."""
        # Their places are the next again; whatever is copied there comes behind on the same stream.
        self._sent = self._shown


class _Place:
    """Where a batch lies on the device. there: it has arrived; used: nobody needs it any longer."""

    def __init__(self, engine, tops, dtype):
        self.blobs = [Blob((0,), dtype, engine.storage) for _ in range(tops)]
        self.there, self.used = Event(), Event()


class Staging:
    """Feeds the tops of a layer whose own `forward` makes its batch on the host, right when it is asked for.

    While the host runs ahead of the device, the copy runs beside the pass before.
    """

    def __init__(self, top: Sequence[Blob], dtype):
        self.engine = current()
        self.feed = Feed(self.engine, len(top), dtype)
        self._hosts = [
            ([Blob(blob.shape, dtype, self._storage) for blob in top], Event()) for _ in range(STAGES)
        ]
        self._next = 0

    def forward(self, layer, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Make a batch and show it."""
        host, read = self._hosts[self._next]
        self._next = (self._next + 1) % STAGES
        wait_for(self.engine, read)
        layer.forward(bottom, host)
        self.feed.send([blob.data for blob in host], read)
        self.feed.show(top)

    def _storage(self, dtype):
        return _PinnedStorage(dtype, self.engine)


class _PinnedStorage(Storage):
    """Page-locked memory on the host alone."""

    __slots__ = ("engine",)

    def __init__(self, dtype, engine):
        super().__init__(dtype)
        self.engine = engine

    def at_least(self, count):
        if self.array is None or self.array.size < count:
            self.array = pinned_array(self.engine, count, self.dtype)
        return self.array


def wait_for(engine: Engine, event: Event) -> None:
    """Make the host wait for an event, which counts where it has not happened yet."""
    if not event.done():
        engine.counters.synchronisations += 1
        event.wait()
