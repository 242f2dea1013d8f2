"""Scratch memory of the engine: buffers that are kept, grown when needed, and shared by all layers.

A buffer holds nothing between two engine calls. Only the main thread computes, so there is one set of
buffers.
"""

from __future__ import annotations

import numpy as np

#: Bytes of a cache line, and of the widest vector.
LINE = 64

_buffers: dict[tuple[str, str], np.ndarray] = {}


def empty_aligned(count: int, dtype) -> np.ndarray:
    """Return an uninitialised flat array that starts at a cache line."""
    dtype = np.dtype(dtype)
    raw = np.empty(count * dtype.itemsize + LINE, np.uint8)
    start = -raw.ctypes.data % LINE
    return raw[start : start + count * dtype.itemsize].view(dtype)


def scratch(name: str, count: int, dtype) -> np.ndarray:
    """Return the flat buffer `name` with at least `count` elements; its contents are arbitrary."""
    key = (name, np.dtype(dtype).char)
    buffer = _buffers.get(key)
    if buffer is None or buffer.size < count:
        buffer = _buffers[key] = empty_aligned(count, dtype)
    return buffer


def scratch_bytes() -> int:
    """Return the size of all buffers together."""
    return sum(buffer.nbytes for buffer in _buffers.values())
