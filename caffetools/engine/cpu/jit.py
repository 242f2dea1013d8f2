"""The two decorators that every CPU kernel uses.

`kernel` compiles a serial function that releases the GIL (prefetch threads may call it); `parallel_kernel` compiles one
whose `prange` loops run on the engine's threads. Only the main thread may enter a parallel kernel. Compiled code is
kept on disk (see `cache`), and a user hears of it when there is none yet.

Arithmetic is done as it is written: without LLVM's "fast math", which lets the compiler add in another order, fuse
products with sums and replace divisions. It makes up its mind about that anew wherever a kernel is inlined and each
time a kernel is optimised, and numba does so once more for every library that a kernel is linked into: the process that
compiled a kernel then had other last digits than those that loaded it. Where arrays might overlap it keeps a second
loop, with an order of its own. What is fast is therefore said by the source: sums by `sums`, fused products by
`multiply_add` of `exponential` and by the vector kernels.
"""

from __future__ import annotations

from pathlib import Path

import numba
from numba.core import event

from caffetools import glog
from caffetools.engine.cpu import cache

FOLDER: Path | None = cache.choose_folder()
CACHED = FOLDER is not None  # whether there is a place for compiled code
if CACHED:
    numba.config.CACHE_DIR = str(FOLDER)


def kernel(function):
    """Compile a serial kernel: no GIL, C division, cached on disk."""
    return numba.njit(cache=CACHED, nogil=True, error_model="numpy")(function)


def parallel_kernel(function):
    """Compile a kernel whose `prange` loops are spread over the engine's threads."""
    options = {"cache": CACHED, "nogil": True, "error_model": "numpy"}
    return numba.njit(parallel=True, **options)(function)


class CompileNotice(event.Listener):
    """Says once that kernels are being compiled, and keeps count of them."""

    def __init__(self, folder: Path | None):
        self.folder = folder
        self.count = 0

    @property
    def place(self) -> str:
        """Where the compiled kernels go, as a clause."""
        if self.folder is None:
            return "in every run: no folder for them can be written; NUMBA_CACHE_DIR names one"
        return f"only once: they are kept in {self.folder}"

    def on_start(self, event):
        if self.count == 0:
            glog.plain(f"compiling kernels ... ({self.place})")
            if self.folder is not None:
                cache.prune(self.folder)
        self.count += 1

    def on_end(self, event):
        """Nothing to do: the notice is given when compilation starts."""


compile_notice = CompileNotice(FOLDER)
event.register("numba:compile", compile_notice)
