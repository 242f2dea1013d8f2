"""The operands of matrix products, packed: A in panels of rows, B in strips as wide as a tile; see `gemm`."""

from __future__ import annotations

import numpy as np

from caffetools.engine.cpu import simd
from caffetools.engine.cpu.jit import kernel
from caffetools.engine.cpu.panels import panel_height, panel_start
from caffetools.engine.cpu.turn import deal, dealer, move, mover, turn, turner

#: Rows of B, or of A if it is transposed, that are packed at a time.
PACK_ROWS = 8


def copiers_of(dtype: np.dtype) -> tuple[int, int, int]:
    """Return the kernels of `turn`, `move` and `deal` that pack A and B."""
    return turner(dtype), mover(dtype), dealer(dtype)


@kernel
def parts(total, size):
    """Return how many parts of at most `size` make up `total`."""
    return (total + size - 1) // size


@kernel
def pack_count(trans_a, a, panels):
    """Return in how many parts A is packed: panels, or some rows of all panels where these lie side by side."""
    return parts(a.shape[0], PACK_ROWS) if trans_a else panels[0]


@kernel
def pack_a(copiers, trans_a, a, panels, part, lanes, packed):
    """Copy a part of A to [panel][k][row of the panel]."""
    if trans_a:
        depth, rows = a.shape
        k = part * PACK_ROWS
        first, count = 0, panels[2]
        while first < panels[0]:  # the tall panels, then the others
            start, height = panel_start(panels, first), panel_height(panels, first)
            source = simd.at(a, k * rows + start), rows, min(PACK_ROWS, depth - k), height, count
            deal(copiers[2], source, (simd.at(packed, start * depth + k * height), height * depth))
            first, count = first + count, panels[0] - first - count
        return
    start, height, depth = panel_start(panels, part), panel_height(panels, part), a.shape[1]
    for r in range(0, height, lanes):
        rows = min(lanes, height - r)
        target = simd.at(packed, start * depth + r), height, rows
        turn(copiers[0], (simd.at(a, (start + r) * depth), depth, rows, depth), target)


@kernel
def pack_b(copiers, trans_b, b, first_k, steps, first_tile, last_tile, lanes, tile_width, strips, strip):
    """Copy the part of B that some tiles need to [tile][k][column], zero beyond the matrix."""
    columns, depth = b.shape if trans_b else (b.shape[1], b.shape[0])
    first_left = first_tile if trans_b else max(first_tile, min(last_tile, columns // tile_width))
    if first_left > first_tile:
        # A few rows for all full tiles before the next rows: memory is read in longer pieces.
        for k in range(0, steps, PACK_ROWS):
            here, rows = simd.at(b, (first_k + k) * columns + first_tile * tile_width), min(PACK_ROWS, steps - k)
            source = here, columns, rows, tile_width, first_left - first_tile
            deal(copiers[2], source, (simd.at(strips, strip + k * tile_width), steps * tile_width))
    for tile in range(first_left, last_tile):
        for j in range(0, tile_width, lanes):
            column = tile * tile_width + j
            used = max(0, min(lanes, columns - column))
            column = min(column, columns - 1)
            target = simd.at(strips, strip + (tile - first_tile) * steps * tile_width + j), tile_width, lanes
            if trans_b:
                turn(copiers[0], (simd.at(b, column * depth + first_k), depth, used, steps), target)
            else:
                move(copiers[1], (simd.at(b, first_k * columns + column), columns, steps, used), target)
