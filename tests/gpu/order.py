"""Which of the device's operations happen before which others, worked out from the calls that order them.

`Order` watches streams, events, copies and kernels, and keeps a vector clock for each stream and for the host. Two
uses of one piece of memory, one of them for writing, must be ordered by events; else it raises AssertionError, in the
simulator too, where everything happens in the order of the calls.
"""

from __future__ import annotations

from collections import Counter, defaultdict

from numba.cuda.simulator.cudadrv.devicearray import FakeCUDAArray

from caffetools.engine.gpu.events import Event
from caffetools.engine.gpu.launch import Kernel
from caffetools.samples.prefetch import Prefetcher

HOST, COMPUTE, COPY = "host", "compute", "copy"


class Order:
    """Watches an engine. late: events seem not to have happened until the host waits for them."""

    def __init__(self, engine, monkeypatch, late: bool):
        self.names = {id(engine.stream): COMPUTE, id(engine.copy_stream): COPY}
        self.late = late
        self.clocks: dict[str, Counter] = {name: Counter() for name in (HOST, COMPUTE, COPY)}
        self.events: dict[int, Counter] = {}
        self.waited: set[int] = set()
        self.uses: dict[int, list[tuple[str, int, bool]]] = defaultdict(list)
        self.calls: list[str] = []
        self.copied: set[int] = set()
        for owner, name in (
            (Event, "record"),
            (Event, "hold"),
            (Event, "wait"),
            (Event, "done"),
            (FakeCUDAArray, "copy_to_device"),
            (FakeCUDAArray, "copy_to_host"),
            (Kernel, "start"),
            (Prefetcher, "give_back"),
        ):
            monkeypatch.setattr(owner, name, self._watched(name, getattr(owner, name)))

    def add_stream(self, name: str, stream) -> None:
        """Watch one more stream."""
        self.names[id(stream)] = name
        self.clocks[name] = Counter()

    def _watched(self, name, function):
        note = getattr(self, f"_{name}")

        def watched(*args, **kwargs):
            result = note(*args, **kwargs)
            function(*args, **kwargs)
            return result

        return watched

    def use(self, actor: str, address: int, writing: bool) -> None:
        """Note that memory is used; refuse it where an earlier use may still be going on."""
        clock = self.clocks[actor]
        if actor != HOST:
            _join(clock, self.clocks[HOST])
        for other, time, wrote in self.uses[address]:
            assert clock[other] >= time or not (writing or wrote), f"{actor} may disturb {other} at {address:#x}"
        clock[actor] += 1
        self.uses[address].append((actor, clock[actor], writing))

    def _record(self, event, stream):
        name = self.names[id(stream)]
        _join(self.clocks[name], self.clocks[HOST])
        self.events[id(event)] = Counter(self.clocks[name])
        self.waited.discard(id(event))
        self.calls.append(f"record on {name}")

    def _hold(self, event, stream):
        name = self.names[id(stream)]
        _join(self.clocks[name], self.events.get(id(event), Counter()))
        self.calls.append(f"hold {name}")

    def _wait(self, event):
        _join(self.clocks[HOST], self.events.get(id(event), Counter()))
        self.waited.add(id(event))

    def _done(self, event):
        if self.late and id(event) in self.events and id(event) not in self.waited:
            return False
        self._wait(event)
        return True

    def _copy_to_device(self, array, values, stream=0):
        name = self.names.get(id(stream), HOST)
        self.use(name, address_of(array), True)
        self.use(name, values.ctypes.data, False)
        if name == COPY:
            self.copied.add(address_of(array))
        self.calls.append(f"copy on {name}")

    def _copy_to_host(self, array, values=None, stream=0):
        self.use(self.names.get(id(stream), HOST), address_of(array), False)
        return values

    def _start(self, kernel, engine, blocks, threads, args):
        for arg in args:
            if hasattr(arg, "_ary"):
                self.use(COMPUTE, address_of(arg), True)
        self.calls.append(f"kernel {kernel.name}")

    def _give_back(self, prefetcher, batch):
        # From now on a thread may write there.
        for blob in batch.blobs:
            self.use(HOST, blob.data.ctypes.data, True)


def _join(clock, other):
    for name, time in other.items():
        clock[name] = max(clock[name], time)


def address_of(array) -> int:
    """Return where a device array begins."""
    return array._ary.ctypes.data
