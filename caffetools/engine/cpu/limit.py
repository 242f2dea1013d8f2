"""The machine's limits: multiply-adds, as the engine's own micro-kernels can reach them, and reading from memory."""

from __future__ import annotations

import time

import numba
import numpy as np

from caffetools.engine.aligned import aligned_empty
from caffetools.engine.cpu import simd
from caffetools.engine.cpu.jit import parallel_kernel
from caffetools.engine.cpu.sums import total
from caffetools.engine.cpu.tiles import micro_kernel, multiply_tile

#: Bytes that no cache holds.
MUCH = 256 << 20


def multiply_add_limit(repeats: int = 5, dtype=np.float32, clock=time.perf_counter) -> float:
    """Return the GFLOP/s of all threads on operands in the first-level cache; clock: in seconds."""
    dtype = np.dtype(dtype)
    threads, rows, width, steps, calls = (
        numba.get_num_threads(),
        simd.max_rows(),
        2 * simd.lanes_of(dtype),
        128,
        20_000,
    )
    a, b, c = (aligned_empty(count, dtype) for count in (steps * rows, steps * width, threads * rows * width))
    a[:] = b[:] = 1
    kernel = micro_kernel(dtype, rows, 2)
    best = float("inf")
    for _ in range(repeats + 1):
        start = clock()
        _repeat_tile(threads, calls, kernel, steps, a, rows, b, width, c, dtype.type(1))
        best = min(best, clock() - start)
    return 2 * threads * calls * steps * rows * width / best / 1e9


@parallel_kernel
def _repeat_tile(threads, calls, kernel, steps, a, rows, b, width, c, alpha):
    for thread in numba.prange(threads):
        for _ in range(calls):
            multiply_tile(
                kernel,
                (steps, simd.at(a, 0), rows, simd.at(b, 0), width),
                (simd.at(c, thread * rows * width), width, simd.at(c, 0), alpha, width, 0),
            )


def read_limit(repeats: int = 5, clock=time.perf_counter) -> float:
    """Return the GB/s at which all threads read numbers that are in no cache; clock: in seconds."""
    values = aligned_empty(MUCH // 4, np.float32)
    values[:] = 1
    best = float("inf")
    for _ in range(repeats + 1):
        start = clock()
        _sum_parts(values, numba.get_num_threads())
        best = min(best, clock() - start)
    return values.nbytes / best / 1e9


@parallel_kernel
def _sum_parts(values, threads):
    sums, size = np.zeros(threads, values.dtype), values.size // threads
    for thread in numba.prange(threads):
        sums[thread] = total(values[thread * size : (thread + 1) * size])
    return sums
