"""Where compiled kernels are kept, apart from the CPU's: in a folder named after all that a kernel may have inlined.

numba-cuda notices changes of the file that holds a kernel, of its own version and of the device, but not of the files
whose functions the kernel calls.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numba

from caffetools import glog
from caffetools.engine.cpu.jit import FOLDER, CompileNotice


@contextmanager
def kept_apart() -> Iterator[bool]:
    """Let kernels that are made in the body be kept; say whether there is a place for them."""
    if FOLDER is None:
        yield False
        return
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(folder())
    try:
        yield True
    finally:
        numba.config.CACHE_DIR = before


def folder() -> Path | None:
    """Return where they are kept, None where there is no place."""
    return None if FOLDER is None else FOLDER / f"gpu-{sources()}"


def announce() -> None:
    """Say what will take its time, where no kernel has been compiled yet."""
    place = folder()
    if place is None or not place.exists():
        glog.plain(f"compiling kernels for the GPU as they are needed ({CompileNotice(place).place})")


@cache
def sources() -> str:
    """Return a name for the sources of everything that runs on a device."""
    engine = Path(__file__).parent
    package = engine.parents[1]
    digest = hashlib.sha256()
    for source in sorted({*engine.rglob("*.py"), *package.rglob("*_cu.py")}):
        digest.update(source.name.encode() + source.read_bytes())
    return digest.hexdigest()[:16]
