"""The GPU that this process computes on: its streams, its properties, and what is counted about it."""

from __future__ import annotations

import weakref

import numba
import numpy as np
from numba import cuda

from caffetools.engine.gpu import kernel_cache, requirements
from caffetools.engine.gpu.events import Counters, simulated
from caffetools.engine.gpu.memory import DeviceStorage, FlatBuffer, Held, pinned_array
from caffetools.engine.gpu.workspace import Workspace
from caffetools.engine.precisions import FLOAT32
from caffetools.glog import fatal

# Small grids are what small nets have; a warning for each would only fill the log.
numba.config.CUDA_LOW_OCCUPANCY_WARNINGS = 0
# numba frees memory when enough of it has been let go, in the thread that let go of it last, which may be one that
# reads data and has no context; and freeing waits for the device. `release` is when it happens instead.
numba.config.CUDA_DEALLOCS_COUNT = 1 << 62
numba.config.CUDA_DEALLOCS_RATIO = 1 << 20


class Engine:
    """One GPU: `stream` for everything that computes, `copy_stream` for batches that are fetched ahead.

    index: the number of the device, from 0. name: of the device. processors: its multiprocessors. counters: see
    `Counters`. held: bytes of its arrays. lagged: results on their way to the host. workspace: scratch that all
    operations share. operands: scratch for the operands of products in half precision. precision: of products, see
    `precision`. tf32: whether libraries may round the operands of products in float32 to TF32.
    """

    def __init__(self, index: int):
        self.index = index
        self.simulated = simulated()
        if not self.simulated:
            cuda.select_device(index)
        self.stream = cuda.stream()
        self.copy_stream = cuda.stream()
        self.counters = Counters()
        self.held = Held()
        self.lagged: weakref.WeakSet = weakref.WeakSet()
        self.workspace = Workspace(self)
        self.operands = Workspace(self), Workspace(self)
        self.precision = FLOAT32
        self.tf32 = False
        device = cuda.get_current_device() if not self.simulated else None
        self.processors = device.MULTIPROCESSOR_COUNT if device else 1
        self.name = _text(device.name) if device else "numba's simulator"
        if device:
            from numba.cuda.cudadrv import driver

            kernel_cache.announce()
            requirements.check(index, self.name, tuple(device.compute_capability), driver.get_version())

    @property
    def stream_handle(self) -> int:
        """The compute stream as libraries take it."""
        return 0 if self.simulated else int(self.stream.handle)

    def storage(self, dtype) -> DeviceStorage:
        """Return a new storage with a side on this device, as blobs take one."""
        return DeviceStorage(dtype, self)

    def flat_buffer(self, size: int, dtype) -> FlatBuffer:
        """Return a buffer for several storages."""
        return FlatBuffer(size, np.dtype(dtype), self)

    def host_array(self, count: int, dtype) -> np.ndarray:
        """Return page-locked memory on the host, from which copies run beside the computation."""
        return pinned_array(self, count, dtype)

    def synchronise(self) -> None:
        """Make the host wait until all that was started on the compute stream is done."""
        self.counters.synchronisations += 1
        self.stream.synchronize()

    def release(self) -> None:
        """Give back the memory that nobody has any longer; whoever allocates does so first."""
        if not self.simulated:
            context = cuda.current_context()
            context.memory_manager.deallocations.clear()
            context.deallocations.clear()

    def free_memory(self) -> int:
        """Return the bytes that can still be allocated on the device."""
        self.release()
        return 0 if self.simulated else cuda.current_context().get_memory_info().free

    def settle(self) -> None:
        """Look at all results that have arrived on the host; those that stand for an error raise it."""
        for lagged in list(self.lagged):
            lagged.poll()


#: Devices of the simulator: so many that runs on several can be tried.
SIMULATED_DEVICES = 2

_engine: Engine | None = None


def count() -> int:
    """Return how many devices there are. Errors: FatalError where the driver or its devices do not work."""
    if not cuda.is_available():
        reason = " ".join(str(cuda.cuda_error() or "the driver finds no device").split())
        fatal(f"The GPU cannot be used: {reason}")
    return SIMULATED_DEVICES if simulated() else len(cuda.gpus)


def use(index: int) -> Engine:
    """Choose the device of this process and return its engine.

    Errors: FatalError for a device that is not there, or when another one is in use: one process has one device.
    """
    global _engine
    if _engine is None:
        there = count()
        if not 0 <= index < there:
            numbers = "only device 0" if there == 1 else f"devices 0 to {there - 1}"
            fatal(f"GPU {index} cannot be used: this machine has {numbers}")
        _engine = Engine(index)
    elif _engine.index != index:
        here = f"this process computes on GPU {_engine.index}"
        fatal(f"GPU {index} cannot be used: {here}. Start another process for it.")
    return _engine


def current() -> Engine:
    """Return the engine that `use` chose."""
    if _engine is None:
        fatal("No GPU was chosen.")
    return _engine


def _text(name):
    return name.decode() if isinstance(name, bytes) else str(name)
