"""Batches made ready in the background: a bounded queue between a data layer and its threads.

Making a batch has two steps. `read` takes what it needs from the source, in order, one thread at a time;
`fill` decodes and transforms, and may run in several threads at once. Batches are handed out in the order in
which they were read, so that what a net sees does not depend on the number of threads.
"""

from __future__ import annotations

import atexit
import itertools
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from caffetools import glog

_LOG_EVERY = 1000  # waits; the count is one for all layers, as in the original
_waits = itertools.count()
_running: weakref.WeakSet[_Pipe] = weakref.WeakSet()


class Prefetcher:
    """Keeps batches filled ahead of their use.

    read: returns the material of the next batch. fill(material, batch): makes a batch of it. Neither may
    refer to whatever owns the prefetcher: the threads hold on to them, and an owner that is dropped without
    `close` could never be collected.
    batches: those to work with, at least one. One is in the consumer's hands while the others are filled.
    threads: how many fill at the same time.

    Attributes: `waits` and `waited_seconds` tell how often and how long the consumer had to wait for a batch.
    `before_close` is called by `close`, before the batches may go to others.
    """

    def __init__(
        self,
        read: Callable[[], Any],
        fill: Callable[[Any, Any], None],
        batches: Sequence[Any],
        threads: int = 1,
        name: str = "prefetch",
    ):
        self.waits = 0
        self.waited_seconds = 0.0
        self._pipe = _Pipe(read, fill, batches)
        self._held: Any = None
        self._wanted = 0
        self.before_close: Callable[[], None] = _nothing
        weakref.finalize(self, _Pipe.stop, self._pipe).atexit = False
        self._pipe.start(threads, name)

    @property
    def ready(self) -> int:
        """How many batches could be taken without waiting."""
        return len(self._pipe.ready)

    def take(self) -> Any:
        """Return the next batch, which is the caller's until the next call.

        Errors: whatever `read` or `fill` raised for this batch, here and in every later call.
        """
        if self._held is not None:
            self.give_back(self._held)
            self._held = None
        self._held = self.fetch()
        return self._held

    def fetch(self, wait: bool = True) -> Any:
        """Return the next batch, which is the caller's until it gives it back.

        wait: until the batch is ready; else return None where it is not, or where making it failed.
        Errors: as `take`.
        """
        pipe = self._pipe
        with pipe.changed:
            if self._wanted not in pipe.ready:
                if not wait:
                    return None
                self._wait()
            batch, error = pipe.ready[self._wanted]
            if error is not None:
                if not wait:
                    return None
                raise error
            del pipe.ready[self._wanted]
            self._wanted += 1
            return batch

    def give_back(self, batch: Any) -> None:
        """Let the threads have a batch that was fetched."""
        pipe = self._pipe
        with pipe.changed:
            pipe.free.append(batch)
            pipe.changed.notify_all()

    def close(self) -> None:
        """Stop the threads and wait for them; may be called twice."""
        self.before_close()
        self._pipe.stop()
        self._pipe.join()

    def _wait(self) -> None:
        pipe = self._pipe
        if next(_waits) % _LOG_EVERY == 0:
            glog.info("Waiting for data")
        self.waits += 1
        start = time.perf_counter()
        while self._wanted not in pipe.ready:
            # After a fork the child has the queue but not the threads. On Windows a wait without end keeps
            # Ctrl-C out.
            if not any(thread.is_alive() for thread in pipe.threads):
                glog.fatal("The threads that prefetch data have ended: layer closed, or process forked")
            pipe.changed.wait(0.5)
        self.waited_seconds += time.perf_counter() - start


def _nothing() -> None:
    """Stand for a function that was not given."""


class _Pipe:
    """What the consumer and the threads share. Batches are numbered in the order in which they are read."""

    def __init__(self, read, fill, batches):
        self.read = read
        self.fill = fill
        self.changed = threading.Condition()
        self.free = deque(batches)
        self.ready: dict[int, tuple[Any, BaseException | None]] = {}
        self.reading = threading.Lock()
        self.next_number = 0
        self.stopped = False
        self.threads: list[threading.Thread] = []

    def start(self, threads: int, name: str) -> None:
        for i in range(threads):
            # Daemons, since the interpreter would wait for others before it comes to `_close_all`.
            thread = threading.Thread(target=_work, args=[self], name=f"{name}-{i}", daemon=True)
            self.threads.append(thread)
        _running.add(self)
        for thread in self.threads:
            thread.start()

    def stop(self) -> None:
        """Ask the threads to end, without waiting: the garbage collector may call this, in any thread."""
        with self.changed:
            self.stopped = True
            self.changed.notify_all()

    def join(self) -> None:
        for thread in self.threads:
            thread.join()


def _work(pipe: _Pipe) -> None:
    """What each thread does: take a free batch, read for it, fill it, hand it over."""
    while True:
        with pipe.changed:
            while not pipe.free and not pipe.stopped:
                pipe.changed.wait()
            if pipe.stopped:
                return
            batch = pipe.free.popleft()
        error = None
        with pipe.reading:
            if pipe.stopped:
                return
            number = pipe.next_number
            pipe.next_number += 1
            try:
                material = pipe.read()
            except BaseException as err:
                error = err
                pipe.stopped = True  # nothing can be read after this; what was read before is still filled
        if error is None:
            try:
                pipe.fill(material, batch)
            except BaseException as err:
                error = err
                pipe.stop()
        with pipe.changed:
            pipe.ready[number] = (batch, error)
            pipe.changed.notify_all()
        if error is not None:
            return


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@atexit.register
def _close_all() -> None:
    """End all threads before the interpreter takes their modules away."""
    pipes = list(_running)
    for pipe in pipes:
        pipe.stop()
    for pipe in pipes:
        pipe.join()
