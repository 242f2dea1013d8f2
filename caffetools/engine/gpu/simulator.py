"""Kernels on the host, by numba's simulator: what CUDA offers them is numba's, the threads are run here.

numba's own loop over the threads of a block never sleeps, and takes the interpreter from them for milliseconds at each
barrier; and it gives a kernel's arrays a wrapper that takes most of the time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
from numba import cuda


class _Cuda:
    """What kernels see as `cuda`: the running grid where there is one, else numba.cuda.

    numba's own way swaps the name in the globals of one kernel's module for as long as it runs, which leaves out the
    functions that it calls in other modules.
    """

    def __getattr__(self, name):
        from numba.cuda.simulator.kernel import _get_kernel_context

        return getattr(_get_kernel_context() or cuda, name)


_cuda = _Cuda()


def prepare(function: Callable) -> None:
    """Let a kernel, or a function that kernels call, find the running grid."""
    function.__globals__["cuda"] = _cuda


def run(function: Callable, blocks: int, threads: int, args: tuple) -> None:
    """Run a kernel: block after block, the threads of each side by side."""
    from numba.cuda.simulator.kernel import FakeCUDAModule, _push_kernel_context

    args = [getattr(arg, "_ary", arg) for arg in args]

    def quiet():
        with np.errstate(all="ignore"):
            function(*args)

    for i in range(blocks):
        # A new one for each block, because it holds the shared memory.
        with _push_kernel_context(FakeCUDAModule((blocks, 1, 1), (threads, 1, 1), 0)):
            _run_block(quiet, i, threads)


def _run_block(function, block, threads):
    barrier = _Barrier(threads)
    if threads == 1:
        # The present thread has no use for the attributes otherwise.
        _place(threading.current_thread(), block, 0, barrier)
        function()
        return
    errors: list[BaseException] = []

    def body():
        try:
            function()
        except BaseException as error:
            errors.append(error)
        finally:
            barrier.leave()

    running = [threading.Thread(target=body, daemon=True) for _ in range(threads)]
    for i, thread in enumerate(running):
        _place(thread, block, i, barrier)
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    if errors:
        raise errors[0]


def _place(thread, block, index, barrier):
    """Give a thread what numba's simulator asks the present one for."""
    from numba.cuda.simulator.kernelapi import Dim3

    thread.blockIdx, thread.threadIdx = Dim3(block, 0, 0), Dim3(index, 0, 0)
    thread.thread_id = index
    thread.syncthreads = barrier.wait


class _Barrier:
    """Where the threads of a block wait for each other; one that has ended is not waited for."""

    def __init__(self, threads: int):
        self._inside = threads
        self._waiting = 0
        self._round = 0
        self._changed = threading.Condition()

    def wait(self):
        with self._changed:
            mine = self._round
            self._waiting += 1
            self._open_if_all_wait()
            while self._round == mine:
                self._changed.wait()

    def leave(self):
        with self._changed:
            self._inside -= 1
            self._open_if_all_wait()

    def _open_if_all_wait(self):
        if self._waiting == self._inside:
            self._waiting = 0
            self._round += 1
            self._changed.notify_all()
