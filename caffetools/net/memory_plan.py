"""Arrays of a net in one piece of memory: those that are never needed at the same time share it.

Arrays are placed one after the other, the largest first, or those that live longest; how close the result comes to what
is needed at one time at least is known, and where that is not close enough, other orders are tried.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from caffetools.blob import Blob
from caffetools.engine.aligned import LINE, PAGE, aligned_zeros
from caffetools.net.lifetimes import Array, Lifetimes
from caffetools.net.wiring import Wiring

#: Good enough is this much of what is needed at least; otherwise each order has so many rounds.
CLOSE, ROUNDS = 1.01, 4


def place(sizes: Sequence[int], spans: Sequence[tuple[int, int]]) -> tuple[list[int], int]:
    """Return where each array begins, and the size of all memory, in bytes.

    sizes: bytes. spans: the first and the last step at which each is needed.
    """
    needed = _needed_at_once(sizes, spans)
    arrays = range(len(sizes))
    best: tuple[list[int], int] = ([], 0)
    orders = (lambda i: (-sizes[i], spans[i]), lambda i: (spans[i][0] - spans[i][1], -sizes[i]))
    for order in (sorted(arrays, key=key) for key in orders):
        for _ in range(ROUNDS):
            starts, total = _place_in_order(sizes, spans, order)
            if not best[0] or total < best[1]:
                best = starts, total
            if total <= needed * CLOSE:
                return best
            # What did not fit goes first the next time.
            order = sorted(order, key=lambda i: starts[i] + sizes[i] <= needed)
    return best


def _needed_at_once(sizes, spans):
    """Return the most bytes that are needed at any one step; no placement can do with less."""
    changes = np.zeros(max((last for _, last in spans), default=0) + 2, np.int64)
    for size, (first, last) in zip(sizes, spans, strict=True):
        changes[first] += _lines(size)
        changes[last + 1] -= _lines(size)
    return int(np.cumsum(changes).max())


def _place_in_order(sizes, spans, order):
    """Give one array after the other the lowest place where it meets none that lives at the same time."""
    starts = [0] * len(sizes)
    # Of the arrays that have a place: their first and last steps, where they begin and end.
    placed = np.empty((len(sizes), 4), np.int64)
    for count, i in enumerate(order):
        first, last = spans[i]
        known = placed[:count]
        there = known[(known[:, 0] <= last) & (known[:, 1] >= first)]
        start = 0
        for begin, end in there[np.argsort(there[:, 2], kind="stable"), 2:].tolist():
            if start + sizes[i] <= begin:
                break
            start = max(start, end)
        starts[i] = start
        placed[count] = first, last, start, start + _lines(sizes[i])
    return starts, int(placed[:, 3].max(initial=0))


def _lines(size):
    """Return a size in bytes, rounded up to whole cache lines."""
    return -(-size // LINE) * LINE


class MemoryPlan:
    """Gives memory to a net's arrays, anew where they have outgrown it.

    lifetimes: returns the arrays of the net as they are now.
    """

    def __init__(self, wiring: Wiring, lifetimes: Callable[[], Lifetimes]):
        self._wiring, self._lifetimes = wiring, lifetimes
        self.make()

    def make(self) -> None:
        """Work out where arrays begin, for the present shapes."""
        lifetimes = self._lifetimes()
        groups = lifetimes.groups
        starts, self.bytes = place([g.bytes for g in groups], [(g.first, g.last) for g in groups])
        self.places: list[tuple[Array, int]] = [
            place for group, start in zip(groups, starts, strict=True) for place in group.moved(start)
        ]
        #: Bytes that the same arrays take where each has its own memory.
        self.unshared_bytes = sum(array.bytes for array, _ in self.places)
        #: Bytes of the arrays that are not planned, such as inputs, outputs and what is asked for.
        self.fixed_bytes = sum(a.bytes for a in lifetimes.arrays.values() if a.fixed and a.written)
        self._known = [self._counts_of(i) for i in range(len(self._wiring.layers))]
        self._all_known, self._seen = self._all_counts(), Blob.reshapes
        self._broken = False

    def apply(self) -> None:
        """Give the arrays their memory; what they held is lost."""
        memory = aligned_zeros(self.bytes, np.uint8, PAGE)
        for array, start in self.places:
            part = memory[start : start + array.bytes].view(array.storage.dtype)
            array.storage.array = part
        self._drop_views()

    def check(self, layer: int) -> None:
        """Give the plan up if a layer that is about to run forward has other shapes than it was made for.

        What is written from now on lies in memory of its own; what was written before stays where it is.
        """
        if not self._broken and self._counts_of(layer) != self._known[layer]:
            self._broken = True
            self._release(layer)

    def drop(self) -> None:
        """Let every array have memory of its own, made when it is next used."""
        self._release(0)

    def renew(self) -> bool:
        """Plan anew if shapes have changed since; return whether there still is a plan. To be called between passes.

        A net whose shapes change within a pass gets no new plan: it might need one in every pass.
        """
        if self._broken:
            self.drop()
        elif self._seen != Blob.reshapes:
            self._seen = Blob.reshapes
            if self._all_counts() != self._all_known:
                self.make()
                self.apply()
        return not self._broken

    def _release(self, step: int):
        for array, _ in self.places:
            if array.first >= step:
                array.storage.array = None
        self._drop_views()

    def _drop_views(self):
        for blob in self._wiring.blobs:
            blob.drop_views()

    def _counts_of(self, layer: int) -> list[int]:
        wiring = self._wiring
        return [wiring.blobs[i].count for i in (*wiring.bottom_ids[layer], *wiring.top_ids[layer])]

    def _all_counts(self) -> list[int]:
        return [blob.count for blob in self._wiring.blobs]
