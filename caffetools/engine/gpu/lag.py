"""Small results that come to the host without anybody waiting for them.

A value is copied into page-locked memory behind the work that computes it, and is looked at when it has arrived: some
iterations later, or when somebody asks for it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from caffetools.engine.gpu import vector
from caffetools.engine.gpu.device import Engine
from caffetools.engine.gpu.events import Event
from caffetools.engine.gpu.memory import device_array, pinned_array

#: How many results may be on their way; with more, the host waits for the oldest one.
DEPTH = 4


class Lagged:
    """A device array whose values go to the host again and again.

    look: called with a host array of each set of values, in their order, when it has arrived; it may raise.
    """

    def __init__(self, engine: Engine, device, look: Callable[[np.ndarray], None]):
        self.engine, self.device, self.look = engine, device, look
        self._hosts = [pinned_array(engine, device.size, device.dtype) for _ in range(DEPTH)]
        self._events = [Event() for _ in range(DEPTH)]
        self._sent = self._seen = 0
        engine.lagged.add(self)

    def send(self) -> None:
        """Copy the present values, in the order of the compute stream."""
        if self._sent - self._seen == DEPTH:
            self._see()
        slot = self._sent % DEPTH
        self.device.copy_to_host(self._hosts[slot], stream=self.engine.stream)
        self._events[slot].record(self.engine.stream)
        self._sent += 1

    def poll(self) -> None:
        """Look at what has arrived."""
        while self._seen < self._sent and self._events[self._seen % DEPTH].done():
            self._see()

    def flush(self) -> None:
        """Wait for all that was sent, and look at it."""
        self.engine.counters.synchronisations += 1
        while self._seen < self._sent:
            self._see()

    def _see(self):
        slot = self._seen % DEPTH
        self._events[slot].wait()
        self._seen += 1
        self.look(self._hosts[slot])


class Loss:
    """A loss on its way to the host: a number that waits for the device only when its value is asked for.

    Sums and multiples of it are on their way as well.
    """

    __slots__ = ("_terms", "_value")

    def __init__(self, terms: list):
        self._terms = terms
        self._value: float | None = None

    def arrived(self) -> bool:
        """Whether the value can be had without waiting."""
        return self._value is not None or all(slot.arrived() for _, slot in self._terms)

    def __float__(self) -> float:
        if self._value is None:
            self._value = sum(factor * slot.value() for factor, slot in self._terms)
            self._terms = []
        return self._value

    def __add__(self, other):
        if not isinstance(other, Loss):
            return self if other == 0 else float(self) + other
        if self._value is not None or other._value is not None:
            return float(self) + float(other)
        return Loss([*self._terms, *other._terms])

    __radd__ = __add__

    def __truediv__(self, divisor):
        if self._value is not None:
            return self._value / divisor
        return Loss([(factor / divisor, slot) for factor, slot in self._terms])

    def __mul__(self, factor):
        return float(self) * factor

    __rmul__ = __mul__

    def __format__(self, spec: str) -> str:
        return format(float(self), spec)


class _Slot:
    """One number on its way."""

    __slots__ = ("ring", "index", "_value", "__weakref__")

    def __init__(self, ring, index):
        self.ring, self.index = ring, index
        self._value: float | None = None

    def arrived(self):
        return self._value is not None or self.ring.events[self.index].done()

    def value(self):
        if self._value is None:
            if not self.ring.events[self.index].done():
                self.ring.engine.counters.synchronisations += 1
                self.ring.events[self.index].wait()
            self._value = float(self.ring.hosts[self.index][0])
            self.ring.engine.settle()
        return self._value


class LossReader:
    """Computes the losses of a net's tops, data times diff, and sends them to the host."""

    SLOTS = 64

    def __init__(self, engine: Engine, dtype):
        self.engine = engine
        self._results = device_array(engine, 1, dtype)
        whole = pinned_array(engine, self.SLOTS, dtype)
        self.hosts = [whole[i : i + 1] for i in range(self.SLOTS)]
        self.events = [Event() for _ in range(self.SLOTS)]
        self._slots: list[_Slot | None] = [None] * self.SLOTS
        self._next = 0

    def read(self, blob) -> Loss:
        """Return the loss of a top: its values times their weights, which its diff holds."""
        vector.dot(blob.gpu_data, blob.gpu_diff, self._results)
        index = self._next
        self._next = (index + 1) % self.SLOTS
        if self._slots[index] is not None:
            self._slots[index].value()
        self._results.copy_to_host(self.hosts[index], stream=self.engine.stream)
        self.events[index].record(self.engine.stream)
        slot = self._slots[index] = _Slot(self, index)
        return Loss([(1.0, slot)])
