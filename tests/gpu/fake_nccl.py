"""A stand-in for nccl4py in the simulator: one process, whose partner has the same numbers plus one."""

from __future__ import annotations

import ctypes
from enum import IntEnum
from types import ModuleType

import numpy as np

Result = IntEnum("Result", {"Success": 0, "RemoteError": 6, "InProgress": 7})
FLOAT32, FLOAT64, AVG = 7, 8, 4
DTYPES = {FLOAT32: np.float32, FLOAT64: np.float64}


class NCCLError(Exception):
    """What the bindings raise."""


class Comm:
    """A handle; it does not end what it stands for."""

    def __init__(self, handle):
        self.handle = handle


class UniqueId:
    def __init__(self, content=b""):
        self.content = content

    def __bytes__(self):
        return self.content

    @staticmethod
    def from_bytes(b):
        return UniqueId(b)


def modules() -> dict[str, ModuleType]:
    """Return the modules by their names; `nccl.bindings.nccl` notes the calls."""
    package, core = ModuleType("nccl"), ModuleType("nccl.core")
    bindings, nccl = ModuleType("nccl.bindings"), ModuleType("nccl.bindings.nccl")
    package.core, package.bindings, bindings.nccl = core, bindings, nccl
    nccl.calls, nccl.state, nccl.broken = [], Result.Success, ""
    nccl.Result, nccl.NCCLError, nccl.Comm = Result, NCCLError, Comm
    core.FLOAT32, core.FLOAT64, core.AVG, core.UniqueId = FLOAT32, FLOAT64, AVG, UniqueId

    def check():
        if nccl.broken:
            raise NCCLError(nccl.broken)

    class Communicator:
        ptr = 0x51

        @classmethod
        def init(cls, nranks, rank, unique_id, config=None):
            check()
            nccl.calls.append(("init", nranks, rank, bytes(unique_id)))
            return cls()

        def get_async_error(self):
            return nccl.state

        def abort(self):
            nccl.calls.append(("abort",))

        def destroy(self):
            nccl.calls.append(("destroy",))

    def get_unique_id(empty=False):
        return UniqueId(b"u" * 128)

    def get_error_string(nccl_result):
        return f"error {int(nccl_result)}"

    def all_reduce(sendbuff, recvbuff, count, datatype, op, comm, stream):
        check()
        assert (sendbuff, op, comm.handle, stream) == (recvbuff, AVG, Communicator.ptr, 0)
        nccl.calls.append(("all_reduce", count, datatype))
        _view(recvbuff, count, datatype)[...] += 0.5

    def broadcast(sendbuff, recvbuff, count, datatype, root, comm, stream):
        check()
        assert (sendbuff, root, comm.handle, stream) == (recvbuff, 0, Communicator.ptr, 0)
        nccl.calls.append(("broadcast", count, datatype))

    core.Communicator, core.get_unique_id, core.get_error_string = Communicator, get_unique_id, get_error_string
    nccl.all_reduce, nccl.broadcast = all_reduce, broadcast
    return {"nccl": package, "nccl.core": core, "nccl.bindings": bindings, "nccl.bindings.nccl": nccl}


def _view(place, count, datatype):
    dtype = np.dtype(DTYPES[datatype])
    return np.frombuffer((ctypes.c_char * (count * dtype.itemsize)).from_address(place), dtype)
