"""NCCL, through nccl4py: its core makes and ends the communicator, its bindings start the operations.

The core would look for PyTorch and CuPy whenever an operation starts, which takes milliseconds where they are not
installed; the bindings take addresses.
"""

from __future__ import annotations

from contextlib import suppress

import numpy as np
from nccl import core
from nccl.bindings import nccl
from numba import cuda

from caffetools.engine.gpu.device import Engine
from caffetools.engine.gpu.events import simulated
from caffetools.engine.gpu.memory import address
from caffetools.engine.group import Alone, LostPeer
from caffetools.glog import fatal

_TYPES = {np.dtype(np.float32): int(core.FLOAT32), np.dtype(np.float64): int(core.FLOAT64)}
_MEAN = int(core.AVG)
_RANK_0 = 0
_FINE = (nccl.Result.Success, nccl.Result.InProgress)


class Communicator:
    """Connects the GPU of this process with those of the others of a group, who all make one at the same time.

    stream: where means are computed, beside the compute stream.
    """

    def __init__(self, engine: Engine, group: Alone):
        self.group = group
        self.stream = cuda.stream()
        try:
            # The process that makes the identifier is where the others meet.
            identifier = group.agree(lambda: bytes(core.get_unique_id()))
            self._communicator = core.Communicator.init(
                group.ranks, group.rank, core.UniqueId.from_bytes(identifier)
            )
        except nccl.NCCLError as error:
            fatal(f"NCCL cannot connect GPU {engine.index} with the others: {error}")
        self._handle = nccl.Comm(self._communicator.ptr)

    def mean(self, array) -> None:
        """Replace an array by its mean over all processes, on `self.stream`."""
        place, kind = address(array), _TYPES[array.dtype]
        self._start(nccl.all_reduce, place, place, array.size, kind, _MEAN, self._handle, _handle(self.stream))

    def copy_from_rank_0(self, array, stream) -> None:
        """Replace an array by that of rank 0, on a stream."""
        place, kind = address(array), _TYPES[array.dtype]
        self._start(nccl.broadcast, place, place, array.size, kind, _RANK_0, self._handle, _handle(stream))

    def check(self) -> None:
        """See whether operations that were started have failed since. Errors: LostPeer."""
        state = self._communicator.get_async_error()
        if state not in _FINE:
            # What waits for the others would never end, nor would what comes behind it on the compute stream.
            with suppress(nccl.NCCLError):
                self._communicator.abort()
            raise LostPeer(f"NCCL: {core.get_error_string(state)} (NCCL_DEBUG=WARN tells more)")

    def close(self) -> None:
        """End the connection; all processes do so."""
        self._communicator.destroy()

    def _start(self, operation, *arguments):
        try:
            operation(*arguments)
        except nccl.NCCLError as error:
            raise LostPeer(f"NCCL: {error}") from error


def _handle(stream):
    """Return a stream as libraries take it."""
    return 0 if simulated() else int(stream.handle)
