"""What processes with a GPU each compute together: means of arrays, and copies of those of rank 0.

`connect` gives NCCL's communicator, through the bindings of nccl4py; in numba's simulator one that sends the numbers
through the pipes of the process group. Both work in place on arrays of the device, in the order of `stream`; all
processes call the same operations in the same order.
"""

from __future__ import annotations

import numpy as np
from numba import cuda

from caffetools.engine.devices import why_not_several
from caffetools.engine.gpu.device import Engine
from caffetools.engine.gpu.memory import host_view
from caffetools.engine.group import Alone
from caffetools.glog import fatal


def connect(engine: Engine, group: Alone) -> PipeCommunicator | object:
    """Return what connects this process's GPU with those of the others. Errors: FatalError with what is missing."""
    why = why_not_several()
    if why:
        fatal(f"Several GPUs cannot be used: {why}")
    if engine.simulated:
        return PipeCommunicator(engine, group)
    from caffetools.engine.gpu.nccl import Communicator

    return Communicator(engine, group)


class PipeCommunicator:
    """The operations of `nccl.Communicator` in the simulator: rank 0 adds up, in the order of ranks."""

    def __init__(self, engine: Engine, group: Alone):
        self.group = group
        self.stream = cuda.stream()

    def mean(self, array) -> None:
        """Replace an array by its mean over all processes."""
        values = host_view(array)
        # As NCCL does: each is multiplied before they are added up.
        values *= values.dtype.type(1 / self.group.ranks)
        terms = self.group.gather(values)
        values[...] = self.group.agree(lambda: sum(terms[1:], terms[0]))

    def copy_from_rank_0(self, array, stream) -> None:
        """Replace an array by that of rank 0."""
        values = host_view(array)
        values[...] = self.group.agree(lambda: np.array(values))

    def check(self) -> None:
        """Nothing to do: pipes say at once that somebody is gone."""

    def close(self) -> None:
        """Nothing to do: the pipes are the group's."""
