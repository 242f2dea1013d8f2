"""When each array of a net is needed: the steps of a pass between which its numbers must stay.

A pass of n layers has 2n steps: layer i runs forward at step i, and backward, where gradients are wanted, at step
2n - 1 - i. An array is written at some steps and read at others; from its first to its last step nothing else may lie
in its memory. What a layer's backward reads of the data is declared by the layer (`Layer.backward_reads`).

Some arrays take over what others hold: the top of a Concat is made of its bottoms, the gradient of a blob that was
split begins as that of one of its copies. They may lie in the same place (`Layer.data_parts`, `Layer.diff_parts`),
where none is changed while the other is still read, and then make up a `Group`.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, field

from caffetools.blob import Blob, Storage
from caffetools.layer import Layer
from caffetools.net.fused.members import FusedStep
from caffetools.net.wiring import Wiring


@dataclass(eq=False)
class Array:
    """The numbers of a storage, which several blobs may look at.

    count: elements. written, read: the steps. fixed: its memory is not the plan's to give.
    """

    storage: Storage
    count: int = 0
    written: list[int] = field(default_factory=list)
    read: list[int] = field(default_factory=list)
    fixed: bool = False

    @property
    def bytes(self) -> int:
        return self.count * self.storage.dtype.itemsize

    @property
    def first(self) -> int:
        return min((*self.written, *self.read))

    @property
    def last(self) -> int:
        return max((*self.written, *self.read))


class Group:
    """Arrays that lie in one piece of memory: `places` are (array, its first byte)."""

    def __init__(self, array: Array):
        self.places: list[tuple[Array, int]] = [(array, 0)]

    @property
    def bytes(self) -> int:
        return max(start + array.bytes for array, start in self.places)

    @property
    def first(self) -> int:
        return min(array.first for array, _ in self.places)

    @property
    def last(self) -> int:
        return max(array.last for array, _ in self.places)

    def start(self, array: Array) -> int:
        return next(start for other, start in self.places if other is array)

    def moved(self, by: int) -> list[tuple[Array, int]]:
        """Return the places, so many bytes further."""
        return [(array, start + by) for array, start in self.places]


class Lifetimes:
    """The arrays of a net and the groups that they form.

    keep: names of blobs whose data a user asks for. backward: whether passes go backward. steps: layers that run as
    one, so that what any of them needs is needed throughout.
    """

    def __init__(
        self,
        wiring: Wiring,
        keep: Container[str] = (),
        backward: bool = True,
        steps: Sequence[FusedStep] = (),
    ):
        self.wiring = wiring
        self.arrays: dict[int, Array] = {}  # by the identity of their storages
        self._layers = len(wiring.layers)
        self._spans = {i: (step.first, step.last) for step in steps for i in range(step.first, step.last + 1)}
        self._unwritten = {id(blob) for step in steps for blob in step.unwritten()}
        for i, layer in enumerate(wiring.layers):
            self._trace_forward(i, layer)
        for step in steps:
            for blob in step.written():
                self._data(blob).written += self._forward_steps(step.first)
        self._goes_backward = [backward and needs for needs in wiring.layer_needs_backward]
        for i, layer in enumerate(wiring.layers):
            if self._goes_backward[i]:
                self._trace_backward(i, layer)
        for step in steps if backward else ():
            for blob in step.read_backward():
                self._data(blob).read += self._backward_steps(step.first)
        self._fix(keep)
        self._group_of = {id(array): Group(array) for array in self.arrays.values() if not array.fixed}
        for i, layer in enumerate(wiring.layers):
            self._join(i, layer)

    @property
    def groups(self) -> list[Group]:
        """The groups whose memory is to be planned."""
        return list(dict.fromkeys(self._group_of.values()))

    def _blobs(self, i: int) -> tuple[list[Blob], list[Blob]]:
        blobs = self.wiring.blobs
        return [blobs[b] for b in self.wiring.bottom_ids[i]], [blobs[t] for t in self.wiring.top_ids[i]]

    def _data(self, blob: Blob) -> Array:
        return self._array(blob.data_storage, blob.count)

    def _diff(self, blob: Blob) -> Array:
        return self._array(blob.diff_storage, blob.count)

    def _array(self, storage: Storage, count: int) -> Array:
        array = self.arrays.setdefault(id(storage), Array(storage))
        array.count = max(array.count, count)
        return array

    def _there(self, blobs: Sequence[Blob]) -> list[Blob]:
        return [blob for blob in blobs if id(blob) not in self._unwritten]

    def _forward_steps(self, i: int) -> range:
        first, last = self._spans.get(i, (i, i))
        return range(first, last + 1)

    def _backward_steps(self, i: int) -> range:
        first, last = self._spans.get(i, (i, i))
        return range(2 * self._layers - 1 - last, 2 * self._layers - first)

    def _trace_forward(self, i: int, layer: Layer):
        bottom, top = self._blobs(i)
        steps = self._forward_steps(i)
        for blob in self._there(bottom):
            self._data(blob).read += steps
        for blob in self._there(top):
            # A top that looks at a bottom's numbers, as a Split's does, is not written.
            if not any(blob is not other and blob.shares_data_with(other) for other in bottom):
                self._data(blob).written += steps
        for blob in self._there(layer.kept()):
            self._data(blob).written += steps

    def _trace_backward(self, i: int, layer: Layer):
        bottom, top = self._blobs(i)
        steps = self._backward_steps(i)
        for end, blobs in (("bottom", bottom), ("top", top)):
            for j, blob in enumerate(blobs):
                read = end in layer.backward_reads or f"{end}[{j}]" in layer.backward_reads
                if read and id(blob) not in self._unwritten:
                    self._data(blob).read += steps
        for blob in self._there(layer.kept()):
            self._data(blob).read += steps
        for blob in top:
            self._diff(blob).read += steps
        for blob, wanted in zip(bottom, self.wiring.bottom_needs_backward[i], strict=True):
            if wanted and not any(blob is not other and blob.shares_diff_with(other) for other in top):
                self._diff(blob).written += steps

    def _fix(self, keep: Container[str]):
        """Leave alone what others give memory to, and what is read after a pass."""
        wiring = self.wiring
        ends = {*wiring.input_ids, *wiring.output_ids}
        for i, (blob, name) in enumerate(zip(wiring.blobs, wiring.blob_names, strict=True)):
            # The diff of a loss holds its weight.
            end = i in ends or wiring.loss_weights[i] != 0
            self._data(blob).fixed |= end or name in keep
            self._diff(blob).fixed |= end
        for i, layer in enumerate(wiring.layers):
            bottom, top = self._blobs(i)
            for blob in layer.blobs:
                self._data(blob).fixed = self._diff(blob).fixed = True
            if not bottom:
                for blob in top:
                    self._data(blob).fixed = True
            if layer.remembers_blobs:
                for blob in (*bottom, *top):
                    self._data(blob).fixed = self._diff(blob).fixed = True
        for array in self.arrays.values():
            array.fixed |= not array.written  # gradients that nobody computes: zeros

    def _join(self, i: int, layer: Layer):
        bottom, top = self._blobs(i)
        step = self._forward_steps(i)[-1]
        for part in layer.data_parts(bottom, top):
            self._try(self._data(part.source), self._data(part.target), part.first, step, part.changes)
        if not self._goes_backward[i]:
            return
        step = self._backward_steps(i)[-1]
        wanted = {id(b) for b, w in zip(bottom, self.wiring.bottom_needs_backward[i], strict=True) if w}
        for part in layer.diff_parts(bottom, top):
            if id(part.target) in wanted:
                self._try(self._diff(part.source), self._diff(part.target), part.first, step, part.changes)

    def _try(self, source: Array, target: Array, first: int, step: int, changes: bool):
        """Let the smaller array lie in the larger, from its element `first` on, if nothing forbids it."""
        if source.fixed or target.fixed:
            return
        inner, outer = sorted((source, target), key=lambda array: array.bytes)
        if inner.bytes == outer.bytes and self._group_of[id(inner)].bytes > inner.bytes:
            inner, outer = outer, inner
        inside, around = self._group_of[id(inner)], self._group_of[id(outer)]
        # What lies in a third array already cannot move here.
        if inside is around or inside.bytes > inner.bytes:
            return
        moved = inside.moved(around.start(outer) + first * inner.storage.dtype.itemsize)
        earlier, later = (moved, around.places) if source is inner else (around.places, moved)
        for one, start in earlier:
            for other, place in later:
                apart = start + one.bytes <= place or place + other.bytes <= start
                if not apart and not _may_follow(one, other, step, changes, one is source):
                    return
        around.places += moved
        for array, _ in moved:
            self._group_of[id(array)] = around


def _may_follow(earlier: Array, later: Array, step: int, changes: bool, is_source: bool) -> bool:
    """Say whether `later` may lie where `earlier` lies, whose numbers it takes over at `step`.

    changes: whether the numbers change at this step already. is_source: whether that is done by reading `earlier`.
    """
    change = min((s for s in later.written if s > step or (changes and s == step)), default=None)
    return (
        max(earlier.written) <= step <= later.first
        and (change is None or all(s < change or (s == step and is_source) for s in earlier.read))
    )  # fmt: skip
