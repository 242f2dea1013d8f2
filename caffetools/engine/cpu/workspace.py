"""Scratch memory of the engine: buffers that are kept, grown when needed, and shared by all layers.

A buffer holds nothing between two engine calls. Only the main thread computes, so there is one set of
buffers.
"""

from __future__ import annotations

import numba
import numpy as np

from caffetools.engine.aligned import PAGE, aligned_empty

#: Pages between the buffers of two threads. Processors fetch lines ahead of a thread that walks its buffer;
#: where these are the next thread's, both slow down to half (measured on Zen 5: up to 16 KiB ahead).
GUARD_PAGES = 8

_buffers: dict[tuple[str, np.dtype], np.ndarray] = {}


def scratch(name: str, count: int, dtype: np.dtype) -> np.ndarray:
    """Return the flat buffer `name` with at least `count` elements; its contents are arbitrary."""
    key = (name, dtype)
    buffer = _buffers.get(key)
    if buffer is None or buffer.size < count:
        buffer = _buffers[key] = aligned_empty(count, dtype, PAGE)
    return buffer


def thread_scratch(name: str, count: int, dtype: np.dtype) -> tuple[np.ndarray, int]:
    """Return a flat buffer with `count` elements for each thread, and the distance of two threads' parts."""
    page = PAGE // dtype.itemsize
    step = (-(-count // page) + GUARD_PAGES) * page
    return scratch(name, numba.config.NUMBA_NUM_THREADS * step, dtype), step


def scratch_bytes() -> int:
    """Return the size of all buffers together."""
    return sum(buffer.nbytes for buffer in _buffers.values())


def release() -> None:
    """Give all buffers back; those that are needed again are made anew."""
    _buffers.clear()
