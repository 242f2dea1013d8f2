"""Arrays that begin at a line of the cache: NumPy's own begin in the middle of one, and every vector would span two."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import numpy as np

#: Bytes of a line of the caches, which is the longest vector's length as well, and of a page of memory.
LINE, PAGE = 64, 4096


def aligned_zeros(shape: int | Sequence[int], dtype, boundary: int = LINE) -> np.ndarray:
    """Return an array of zeros whose address is a multiple of `boundary` bytes."""
    return _aligned(np.zeros, shape, dtype, boundary)


def aligned_empty(shape: int | Sequence[int], dtype, boundary: int = LINE) -> np.ndarray:
    """Return an array of arbitrary contents whose address is a multiple of `boundary` bytes."""
    return _aligned(np.empty, shape, dtype, boundary)


def _aligned(allocate: Callable, shape, dtype, boundary) -> np.ndarray:
    sizes = (shape,) if isinstance(shape, int) else tuple(shape)
    size = prod(sizes) * np.dtype(dtype).itemsize
    raw = allocate(size + boundary, np.uint8)
    start = -raw.ctypes.data % boundary
    # Made of the memory and not of the larger array, so that views of it hold a reference to it.
    array = np.frombuffer(memoryview(raw)[start : start + size], dtype)
    return array if isinstance(shape, int) else array.reshape(sizes)
