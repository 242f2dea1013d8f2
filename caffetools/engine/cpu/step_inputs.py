"""The same weights times what comes in from below, for several steps of a recurrent net at once.

    Z = X W^T        X: (rows, depth), a row for each stream at each step, W: (parts * width, depth)

Z is made in blocks, as `step_product` has them. Where the rows fill the lanes of vectors, W is the broadcast operand
and is read where it lies: packed it would take its memory once more, which matters to nets that only run forward. The
tiles come out transposed and are turned on their way to the cells. Elsewhere W is packed. Both give the same results
bit for bit.
"""

from __future__ import annotations

import numba
import numpy as np

from caffetools.engine.cpu import simd
from caffetools.engine.cpu.jit import kernel
from caffetools.engine.cpu.kept import Kept
from caffetools.engine.cpu.panels import Panels, panel_kernel, panel_start
from caffetools.engine.cpu.step_product import UNITS, StepWeights, multiply_step
from caffetools.engine.cpu.tiles import ADD, multiply_tile
from caffetools.engine.cpu.turn import turn, turner
from caffetools.engine.cpu.workspace import scratch, thread_scratch

#: Vectors of a tile.
VECTORS = 2
#: Rows with those that fill the last tile up, as a multiple of the rows, up to which reading W where it lies pays.
MOST_FILLED = 1.1


class InputWeights:
    """How W is used with `rows` rows of `depth` numbers; width, parts: see `StepWeights`.

    packing: how it is packed, or None where it is read as it lies.
    """

    def __init__(self, rows: int, depth: int, width: int, parts: int, dtype):
        self._step = StepWeights("x", rows, depth, width, parts, dtype, turned=True)
        lanes = simd.lanes_of(dtype)
        self._tile_width = VECTORS * lanes
        tiles = -(-rows // self._tile_width)
        lies = 0 < tiles * self._tile_width <= MOST_FILLED * rows
        self.packing = None if lies else self._step
        # Beyond the last unit of the last block it comes again: nobody looks at what comes of it.
        units = np.minimum(np.arange(self._step.blocks * UNITS), width - 1).reshape(-1, 1, UNITS)
        self._row_offsets = ((np.arange(parts)[:, None] * width + units) * depth).reshape(-1)
        panels = Panels.cut(self._step.columns, VECTORS).with_kernels(dtype, VECTORS, form="rows")
        self._tiling = tiles if lies else 0, turner(dtype), lanes, self._tile_width, *panels

    def ready(self, w: np.ndarray, kept: Kept | None = None) -> tuple:
        """Pack W, if that is wanted and it is not kept, and return what `multiply_inputs` needs to know; it is valid
        until the next call, of whichever layer."""
        step, dtype, tiles = self._step, self._step.dtype, self._tiling[0]
        x = scratch("step inputs x", tiles * self._tile_width * step.depth, dtype)
        z = thread_scratch("step inputs z", step.columns * self._tile_width, dtype)
        numbers = step.ready(w, kept) if self.packing else step.numbers(w.reshape(-1))
        # Flat, as arguments of parallel kernels must be.
        return *self._tiling, self._row_offsets, x, *z, *numbers


@kernel
def pack_inputs(weights, tile, x):
    """Copy the rows of x that a tile holds to [k][row], zero beyond the last one; there are `weights[0]` tiles."""
    turner, lanes, tile_width = weights[1:4]
    rows, depth = x.shape
    for j in range(0, tile_width, lanes):
        row = tile * tile_width + j
        source = simd.at(x, min(row, rows - 1) * depth), depth, max(0, min(lanes, rows - row)), depth
        turn(turner, source, (simd.at(weights[10], tile * tile_width * depth + j), tile_width, lanes))


@kernel
def multiply_inputs(weights, block, x, y, y_place, y_step):
    """Compute y[y_place + row * y_step + column of the block] = X times a block of W^T; x is packed, if it must be."""
    tiles, turner, lanes, tile_width = weights[:4]
    panels, numbers = weights[4:9], weights[13:]
    row_offsets, packed, results, distance = weights[9:13]
    if tiles == 0:
        multiply_step(numbers, block, x, 0, y, y_place, y_step, 0)
        return
    w, _, depth, columns, _, strip = numbers[:6]
    place = numba.get_thread_id() * distance
    for tile in range(tiles):
        for first_k in range(0, depth, strip):
            steps, b = min(strip, depth - first_k), (tile * depth + first_k) * tile_width
            for panel in range(panels[0]):
                row = panel_start(panels, panel)
                multiply_tile(
                    panel_kernel(panels, panel),
                    (1, steps, simd.at(w, first_k), simd.at(row_offsets, block * columns + row),
                     simd.at(row_offsets, 0), simd.at(packed, b), tile_width),  # the first offset is 0
                    (simd.at(results, place + row * tile_width), tile_width, simd.at(y, 0), y.dtype.type(1),
                     tile_width, 0 if first_k == 0 else ADD),
                )  # fmt: skip
        first = tile * tile_width
        for column in range(0, columns, lanes):
            source = simd.at(results, place + column * tile_width), tile_width, lanes
            target = simd.at(y, y_place + first * y_step + column), y_step, lanes
            turn(turner, (*source, min(tile_width, x.shape[0] - first)), target)
