"""The two decorators that every CPU kernel uses, and where the compiled code is kept.

`kernel` compiles a serial function that releases the GIL (prefetch threads may call it); `parallel_kernel` compiles one
whose `prange` loops run on the engine's threads. Only the main thread may enter a parallel kernel.

Compiled code is cached per user, in a folder named after everything that a kernel may have inlined: the versions of
caffetools, numba and llvmlite, the vector width and the engine's sources. numba itself notices changes of the file that
holds a kernel, but not of the files that the kernel calls into.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import llvmlite
import numba
from numba.core import event

import caffetools
from caffetools import glog

# No "nnan" and no "ninf": a NaN loss must stay visible. Everything else that lets LLVM vectorise reductions is allowed.
FASTMATH = {"contract", "reassoc", "nsz", "arcp", "afn"}


def kernel(function):
    """Compile a serial kernel: no GIL, C division, cached on disk."""
    return numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)(function)


def parallel_kernel(function):
    """Compile a kernel whose `prange` loops are spread over the engine's threads."""
    return numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH, parallel=True)(function)


def user_cache_dir() -> Path:
    """Return the folder where this user's programs keep what can be made again."""
    if os.environ.get("NUMBA_CACHE_DIR"):
        return Path(os.environ["NUMBA_CACHE_DIR"])
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def cache_key() -> str:
    """Return a name for the code that kernels of other files may have inlined."""
    digest = hashlib.sha256()
    for part in (
        caffetools.__version__,
        numba.__version__,
        llvmlite.__version__,
        os.environ.get("CAFFETOOLS_SIMD", ""),
    ):
        digest.update(part.encode() + b"\0")
    engine = Path(__file__).parent
    for source in sorted(engine.rglob("*.py")):
        digest.update(source.name.encode() + source.read_bytes())
    return digest.hexdigest()[:16]


class CompileNotice(event.Listener):
    """Says once that kernels are being compiled, and keeps count of them."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.count = 0

    def on_start(self, event):
        if self.count == 0:
            glog.plain(f"compiling kernels ... (only once: they are kept in {self.folder})")
        self.count += 1

    def on_end(self, event):
        """Nothing to do: the notice is given when compilation starts."""


numba.config.CACHE_DIR = str(user_cache_dir() / "caffetools" / cache_key())
compile_notice = CompileNotice(Path(numba.config.CACHE_DIR))
event.register("numba:compile", compile_notice)
