"""Panels: the rows of a matrix cut into strips as high as a micro-kernel's tile.

The panels of one matrix have at most two heights, tall and tall - 1, so that no row is computed in vain
whatever the number of rows: 50 rows are 13 + 13 + 12 + 12 and 20 are 10 + 10. Kernels get them as the tuple
that `Panels.with_kernels` makes and ask the functions at the end of this file.
"""

from __future__ import annotations

from dataclasses import dataclass

from caffetools.engine.cpu import simd
from caffetools.engine.cpu.jit import kernel
from caffetools.engine.cpu.tiles import micro_kernel


@dataclass(frozen=True)
class Panels:
    """How `rows` rows are cut: `tall_count` panels of `tall` rows come first, then panels of `tall - 1`."""

    rows: int
    count: int
    tall: int
    tall_count: int

    @classmethod
    def cut(cls, rows: int, vectors: int = 2) -> Panels:
        """Cut into as few panels as possible for tiles that are `vectors` vectors wide."""
        return cls.cut_at_most(rows, simd.max_rows(vectors))

    @classmethod
    def cut_at_most(cls, rows: int, most: int) -> Panels:
        """Cut into panels of at most `most` rows, as few as possible."""
        count = -(-rows // most)
        tall = -(-rows // count)
        return cls(rows, count, tall, rows - count * (tall - 1))

    def with_kernels(self, dtype, vectors: int, **operands) -> tuple[int, int, int, int, int]:
        """Return (count, tall, tall_count, micro-kernel of tall panels, micro-kernel of short ones).

        operands: where A and B lie, see `tiles.micro_kernel`.
        """
        tall = short = micro_kernel(dtype, self.tall, vectors, **operands)
        if self.tall_count < self.count:
            short = micro_kernel(dtype, self.tall - 1, vectors, **operands)
        return self.count, self.tall, self.tall_count, tall, short


@kernel
def panel_start(panels, index):
    """Return the first row of a panel; with the number of panels as index, the number of rows."""
    _, tall, tall_count, _, _ = panels
    return index * tall - max(0, index - tall_count)


@kernel
def panel_height(panels, index):
    """Return the number of rows of a panel."""
    _, tall, tall_count, _, _ = panels
    return tall if index < tall_count else tall - 1


@kernel
def panel_kernel(panels, index):
    """Return the address of a panel's micro-kernel."""
    _, _, tall_count, tall_kernel, short_kernel = panels
    return tall_kernel if index < tall_count else short_kernel
