"""Panels: the rows of a matrix cut into strips as high as a micro-kernel's tile.

The strips of one matrix have at most two heights, `tall` and `tall - 1`, so that no row is computed in vain whatever the
number of rows: 50 rows are 13 + 13 + 12 + 12 and 20 are 10 + 10.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from caffetools.engine.cpu import simd
from caffetools.engine.cpu.jit import kernel


@dataclass(frozen=True)
class Panels:
    """How `rows` rows are cut: `tall_count` strips of `tall` rows come first, then strips of `tall - 1`."""

    rows: int
    count: int
    tall: int
    tall_count: int

    @classmethod
    def cut(cls, rows: int, most: int) -> Panels:
        """Cut into strips of at most `most` rows, as few as possible."""
        count = -(-rows // most)
        tall = -(-rows // count)
        return cls(rows, count, tall, rows - count * (tall - 1))

    def kernels(self, dtype, vectors: int, **operands) -> np.ndarray:
        """Return the addresses of the micro-kernels for (tall, short) strips; operands: see `simd.micro_kernel`."""
        tall = simd.micro_kernel(dtype, self.tall, vectors, **operands)
        short = tall
        if self.tall_count < self.count:
            short = simd.micro_kernel(dtype, self.tall - 1, vectors, **operands)
        return np.array([tall, short], np.int64)


@kernel
def panel_start(index, tall, tall_count):
    """Return the first row of strip `index`; also the number of rows before it when `index` is the count."""
    return index * tall - max(0, index - tall_count)


@kernel
def panel_height(index, tall, tall_count):
    """Return the number of rows of strip `index`."""
    return tall if index < tall_count else tall - 1
