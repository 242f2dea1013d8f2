"""Run the pieces that parallel kernels give to their threads one after another, on one thread, and time each.

A parallel kernel cuts its loop into one piece for each thread and hands them to a function of the threading layer.
`Turns` puts another function in its place. What the threads of a machine with more cores would do is so seen on any
machine, and nobody waits for a core.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import time
from collections.abc import Callable
from pathlib import Path

import llvmlite.binding
import numba
from numba.np.ufunc import parallel

NUMBERS = ctypes.POINTER(ctypes.c_size_t)  # addresses, too
#: What a thread runs: (pointers to arguments, sizes, steps, data).
PIECE = ctypes.CFUNCTYPE(None, NUMBERS, NUMBERS, NUMBERS, ctypes.c_void_p)
#: What hands pieces to threads: (piece, arguments, sizes, steps, data, inner dimensions, arguments' count, threads).
PARALLEL_FOR = ctypes.CFUNCTYPE(
    None, ctypes.c_void_p, NUMBERS, NUMBERS, NUMBERS, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int
)


#: (label, which line of Python entered the kernel, nanoseconds of each piece) of a parallel loop, or (label, the line
#: that entered the next kernel, nanoseconds) of what the calling thread did since the loop before.
Event = tuple[str, str, "int | list[int]"]


class Turns:
    """The threads' pieces in turns. To be made before any kernel is compiled or loaded, and only once.

    `label`: what the events that follow are labelled with.
    """

    def __init__(self):
        self.label = ""
        self._seen: list[tuple[str, str, int, int, list[int]]] = []
        self._last = 0
        self._functions: dict[int, Callable] = {}
        self._callback = PARALLEL_FOR(self._run)
        parallel._launch_threads()  # names the threading layer's functions for the compiler, for the last time
        address = ctypes.cast(self._callback, ctypes.c_void_p).value
        llvmlite.binding.add_symbol("numba_parallel_for", address)
        self._call_cost = self._measure_call()

    def _run(self, piece, arguments, sizes, steps, data, inner, count, threads):
        before = time.perf_counter_ns() - self._last
        run = self._functions.get(piece)
        if run is None:
            run = self._functions[piece] = PIECE(piece)
        inner_sizes = (ctypes.c_size_t * (inner + 1))(1, *sizes[1 : inner + 1])
        starts, strides = arguments[:count], steps[:count]
        times = []
        for i in range(sizes[0]):
            here = (ctypes.c_size_t * count)(*(start + i * step for start, step in zip(starts, strides, strict=True)))
            begin = time.perf_counter_ns()
            run(here, inner_sizes, steps, data)
            times.append(max(0, time.perf_counter_ns() - begin - self._call_cost))
        frame = sys._getframe(1)
        # What is done here drives from the caches what is timed next: names are for `watch` to make.
        self._seen.append((self.label, frame.f_code.co_filename, frame.f_lineno, before, times))
        self._last = time.perf_counter_ns()

    def _measure_call(self):
        nothing = numba.cfunc("void(voidptr, voidptr, voidptr, voidptr)")(lambda a, b, c, d: None)
        run, times = PIECE(nothing.address), []
        for _ in range(1000):
            begin = time.perf_counter_ns()
            run(None, None, None, None)
            times.append(time.perf_counter_ns() - begin)
        return min(times)

    def watch(self, function: Callable[[], object]) -> list[Event]:
        """Run a function and return its events; the last is what it did after the last loop."""
        self._seen = []
        gc.collect()
        gc.disable()
        self._last = time.perf_counter_ns()
        function()
        rest = time.perf_counter_ns() - self._last
        gc.enable()
        events: list[Event] = []
        for label, path, line, before, times in self._seen:
            place = f"{Path(path).name}:{line}"
            events += [(label, place, before), (label, place, times)]
        return [*events, (self.label, "end", rest)]
