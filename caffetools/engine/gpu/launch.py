"""Kernels: how they are compiled, and how they are started on the engine's compute stream.

    @cuda_kernel
    def add(a, b, y):
        for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
            y[i] = a[i] + b[i]

    launch(add, y.size, a, b, y)

Kernels are right for every number of blocks and threads: element-wise ones stride by the size of the grid, those that
work on rows by the number of blocks. In the simulator a thread of the device is a thread of Python, so there are few.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import cuda

from caffetools.engine.gpu import simulator
from caffetools.engine.gpu.device import current
from caffetools.engine.gpu.events import simulated
from caffetools.engine.gpu.kernel_cache import kept_apart

#: Threads of a block where a kernel does not say otherwise; a power of two, as block reductions need.
THREADS = 256
#: Blocks of an element-wise kernel for each multiprocessor; more would only wait.
BLOCKS_PER_PROCESSOR = 32
#: The shape of a grid in the simulator: two blocks show whether a kernel strides.
SIMULATED_BLOCKS, SIMULATED_THREADS = 2, 4


class Kernel:
    """A compiled function of the device that is started with `launch` or `launch_blocks`.

    signatures: the argument types it was started with in the simulator, as numba spells them; the tests compile these
    for real devices.
    """

    def __init__(self, function: Callable):
        self.function = function
        self.name = function.__name__
        self.module = function.__module__
        self.signatures: set[str] = set()
        self._configured: dict[tuple[int, int], Callable] = {}
        if simulated():
            simulator.prepare(function)
        else:
            with kept_apart() as cached:
                self._dispatcher = cuda.jit(cache=cached)(function)
        KERNELS.append(self)

    def start(self, engine, blocks: int, threads: int, args: tuple) -> None:
        """Put one run of the kernel onto the compute stream."""
        if engine.simulated:
            self.signatures.add(signature(args))
            simulator.run(self.function, blocks, threads, args)
            return
        configured = self._configured.get((blocks, threads))
        if configured is None:
            configured = self._configured[blocks, threads] = self._dispatcher[blocks, threads, engine.stream]
        configured(*args)


#: All kernels of the modules that are loaded.
KERNELS: list[Kernel] = []


def cuda_kernel(function: Callable) -> Kernel:
    """Make a kernel of a function; NaN and infinities keep their meaning."""
    return Kernel(function)


def cuda_device(function: Callable) -> Callable:
    """Make a function that kernels call."""
    if simulated():
        simulator.prepare(function)
        return function
    return cuda.jit(device=True)(function)


def launch(kernel: Kernel, count: int, *args) -> None:
    """Start an element-wise kernel for `count` elements; nothing is started for none."""
    if count == 0:
        return
    engine = current()
    if engine.simulated:
        kernel.start(engine, SIMULATED_BLOCKS, 1, args)
    else:
        blocks = min(-(-count // THREADS), engine.processors * BLOCKS_PER_PROCESSOR)
        kernel.start(engine, blocks, THREADS, args)


def launch_blocks(kernel: Kernel, blocks: int, threads: int, *args) -> None:
    """Start a kernel whose blocks work on one row, channel or chunk each.

    threads: of a block, a power of two of at most THREADS; fewer in the simulator.
    """
    if blocks == 0:
        return
    engine = current()
    if engine.simulated:
        kernel.start(engine, min(blocks, SIMULATED_BLOCKS), min(threads, SIMULATED_THREADS), args)
    else:
        kernel.start(engine, blocks, threads, args)


def signature(args: tuple) -> str:
    """Return the types of a kernel's arguments: `float32[::1], float32, int64`.

    Errors: TypeError for a Python float, with which a kernel would compute in float64.
    """
    return ", ".join(_type_name(arg) for arg in args)


def _type_name(arg):
    if isinstance(arg, bool | np.bool_):
        return "boolean"
    if isinstance(arg, int):
        return "int64"
    if isinstance(arg, np.generic):
        return arg.dtype.name
    if hasattr(arg, "dtype") and hasattr(arg, "shape"):
        return f"{arg.dtype.name}[{', '.join([':'] * (len(arg.shape) - 1) + ['::1'])}]"
    raise TypeError(f"a kernel takes arrays and typed scalars, not {arg!r}")
