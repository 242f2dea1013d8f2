"""Gradients of several GPUs: their means, computed beside the backward pass.

The gradients of a net lie in one buffer in the order of its layers, and become complete from its end to its beginning.
As soon as those of some layers are, NCCL computes their means on a stream of its own, while the layers before them go
on; the update waits for the last. Parameters that layers share belong to the first of these, which comes last.
Who asks for gradients whose means are being computed waits for the means, and gets these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

from caffetools.blob import Blob
from caffetools.engine.gpu.communicator import connect
from caffetools.engine.gpu.events import Event
from caffetools.engine.group import Alone
from caffetools.net import Net

#: Means of fewer bytes wait for those of the next layers: each costs some microseconds, however small.
LEAST_BYTES = 1 << 20


@dataclass
class Part:
    """A piece of the buffer: that of the layers from `layer` on to the next part, in the elements start to stop.

    blobs: its parameters. ready: the mark on the compute stream behind their gradients. array: the piece.
    """

    layer: int
    start: int
    stop: int
    blobs: list[Blob]
    ready: Event = field(default_factory=Event)
    array: object = None


class GradientExchange:
    """Replaces a net's gradients by their means over the processes of a group, in each step.

    Its methods are callbacks: `on_start` before a step, `gradients_done` within the backward passes (left out, all
    means are computed at the end), `on_gradients_ready` before the update. passes: those of a step (`iter_size`); the
    last one is followed.
    """

    def __init__(self, net: Net, group: Alone, passes: int, least_bytes: int = LEAST_BYTES):
        self.net, self.passes = net, passes
        self._engine = net.context.engine
        self._communicator = connect(self._engine, group)
        self._done = Event()
        self.parts = parts(net, least_bytes)
        self._next = 0
        self._pass, self._layer = 0, -1

    def broadcast(self) -> None:
        """Give all processes the parameters of rank 0."""
        data = self.net.flat_data.write_device()
        if data.size:
            self._communicator.copy_from_rank_0(data, self._engine.stream)

    def on_start(self) -> None:
        """Begin a step."""
        self._next = self._pass = 0
        self._layer = -1

    def gradients_done(self, layer: int) -> None:
        """Start the means that the gradients of the layers from `layer` on were missing for."""
        if layer > self._layer:
            # Within a pass they fall.
            self._pass += 1
        self._layer = layer
        # The log of debug_info reads all gradients of this process at the end of the pass.
        if self._pass == self.passes and not self.net.debug_info:
            while self._next < len(self.parts) and self.parts[self._next].layer >= layer:
                self._start(self.parts[self._next])
                self._next += 1

    def on_gradients_ready(self) -> None:
        """Let the compute stream wait for all means, and start those that are not yet."""
        for part in self.parts[self._next :]:
            self._start(part)
        self._next = len(self.parts)
        self._done.hold(self._engine.stream)
        for part in self.parts:
            for blob in part.blobs:
                blob.diff_storage.arrived()
        self._communicator.check()

    def close(self) -> None:
        """End the connection, once nothing is started any longer."""
        self._engine.synchronise()
        self._communicator.close()

    def _start(self, part):
        for blob in part.blobs:
            # Those of layers on the host go to the device now.
            blob.mutable_gpu_diff  # noqa: B018
        if part.array is None:
            part.array = self.net.flat_diff.device_part(part.start, part.stop)
        part.ready.record(self._engine.stream)
        part.ready.hold(self._communicator.stream)
        self._communicator.mean(part.array)
        self._done.record(self._communicator.stream)
        for blob in part.blobs:
            # Who takes `.diff` on the host makes that the newest, which must not be what was there before the means.
            blob.diff_storage.written_until(self._done)


def parts(net: Net, least_bytes: int) -> list[Part]:
    """Return the pieces of a net's gradients in the order in which they become complete.

    Each has at least so many bytes, but for the last one and those before a layer without gradients.
    """
    result: list[Part] = []
    size = net.context.dtype.itemsize
    owners = _owners(net)
    learnt = {use.learnable for use in net.param_uses if net.layer_needs_backward[use.layer]}
    for layer, numbers in groupby(reversed(range(len(net.params))), key=owners.__getitem__):
        numbers = sorted(numbers)
        # The gradients of a layer that no loss depends on may come from one that shares its parameters.
        if learnt.isdisjoint(numbers):
            continue
        start, blobs = int(net.param_offsets[numbers[0]]), [net.params[i] for i in numbers]
        stop = _stop(net, numbers)
        last = result[-1] if result else None
        if last is not None and last.start == stop and (last.stop - last.start) * size < least_bytes:
            last.layer, last.start, last.blobs = layer, start, blobs + last.blobs
        else:
            result.append(Part(layer, start, stop, blobs))
    return result


def _stop(net: Net, numbers: Sequence[int]) -> int:
    after = numbers[-1] + 1
    return int(net.param_offsets[after]) if after < len(net.params) else net.flat_diff.size


def _owners(net: Net) -> list[int]:
    """Return the layer of each parameter, the first of those that share it."""
    return [use.layer for use in net.param_uses if use.owner < 0]
