"""Setting arrays to zero: large ones on all threads, in pieces so long that they go past the caches."""

from __future__ import annotations

import numba
import numpy as np

from caffetools.engine.cpu.jit import parallel_kernel

#: Arrays of fewer elements are cleared by the calling thread. Others are cut into so many pieces, no shorter than that.
LARGE, PIECES = 1 << 18, 8


def clear(array: np.ndarray) -> None:
    """Set a flat array to zero."""
    if array.size < LARGE:
        array.fill(0)
    else:
        _clear_pieces(array)


@parallel_kernel
def _clear_pieces(array):
    length = max(LARGE, (array.size + PIECES - 1) // PIECES)
    for piece in numba.prange((array.size + length - 1) // length):
        array[piece * length : min(array.size, (piece + 1) * length)] = 0
