"""The same weights times a few rows, again and again: the product that every step of a recurrent net makes.

    Y = X W        X: (rows, depth), W: (depth, columns)

W has one or several parts of `width` columns, such as the gates of an LSTM. It is packed once for all steps, in
blocks of `UNITS` columns of each part: packed[block][k][column of the block]. A job takes a block and goes on with
its results, all that belongs to the same units, while they are in the cache; they lie in cells, (rows, columns).
"""

from __future__ import annotations

import numba
import numpy as np

from caffetools.engine.cpu import simd
from caffetools.engine.cpu.jit import kernel, parallel_kernel
from caffetools.engine.cpu.kept import Kept, Packing
from caffetools.engine.cpu.panels import Panels, panel_kernel, panel_start
from caffetools.engine.cpu.tiles import ADD, multiply_tile
from caffetools.engine.cpu.turn import move, move_block, mover, turn, turner

#: Columns of each part in a block: the numbers of a stream that a loop of constant length goes through.
UNITS = 32
#: Weights that stay in the second-level cache while all rows go by; blocks for the first level would cost more in
#: ends of tiles than they save.
STRIP_BYTES = 256 << 10
#: Vectors of a tile, and how many rows (of two vectors) the registers must hold to allow them.
MOST_VECTORS, ROWS_FOR_MOST = 4, 12


class StepWeights(Packing):
    """How W is packed for products with `rows` rows of `depth` numbers.

    name: tells apart weights that are in use at the same time. width, parts: columns of a part of W, and how many
    parts it has; the last block is filled up with zeros. turned: whether W is given as (parts * width, depth) and not
    as (depth, parts * width).
    """

    def __init__(self, name: str, rows: int, depth: int, width: int, parts: int, dtype, turned: bool):
        self.name, self.depth, self.width, self.parts, self.turned = name, depth, width, parts, turned
        self.dtype = np.dtype(dtype)
        self.blocks, self.columns = -(-width // UNITS), parts * UNITS
        self.packed_size = self.blocks * depth * self.columns
        lanes = simd.lanes_of(dtype)
        vectors = min(self.columns // lanes, MOST_VECTORS if simd.max_rows() >= ROWS_FOR_MOST else 2)
        panels = Panels.cut(max(1, rows), vectors)
        strip = max(1, STRIP_BYTES // (self.columns * dtype.itemsize))
        self._tiling = vectors * lanes, strip
        self._panels = panels.with_kernels(dtype, vectors, form="rows")
        self._row_offsets = np.arange(panels.tall) * depth
        self._copiers = turner(dtype), mover(dtype), lanes

    def pack(self, w: np.ndarray, packed: np.ndarray) -> None:
        """Write W to `packed`."""
        _pack(w, self.turned, (self.depth, self.width, self.parts, self.blocks), self._copiers, packed)

    def ready(self, w: np.ndarray, kept: Kept | None = None) -> tuple:
        """Pack W, if it is not kept, and return what `multiply_step` needs to know; it is valid until weights of that
        name are packed again."""
        return self.numbers(self.packed(w, kept, f"step weights {self.name}"))

    def numbers(self, weights: np.ndarray) -> tuple:
        """Return weights, flat, and what a kernel needs to know beside them."""
        # Flat, as arguments of parallel kernels must be.
        return weights, self._row_offsets, self.depth, self.columns, *self._tiling, *self._panels


@parallel_kernel
def _pack(w, turned, sizes, copiers, packed):
    depth, width, parts, blocks = sizes
    for job in numba.prange(blocks * parts):
        _pack_part(job // parts, job % parts, w, turned, sizes, copiers, packed)


@kernel
def _pack_part(block, part, w, turned, sizes, copiers, packed):
    """Copy the columns of one part that a block holds."""
    depth, width, parts, blocks = sizes
    turner, mover, lanes = copiers
    columns = parts * UNITS
    for j in range(0, UNITS, lanes):
        column = block * UNITS + j
        used = max(0, min(lanes, width - column))
        column = part * width + min(column, width - 1)
        target = simd.at(packed, block * depth * columns + part * UNITS + j), columns, lanes
        if turned:
            turn(turner, (simd.at(w, column * depth), depth, used, depth), target)
        else:
            move(mover, (simd.at(w, column), parts * width, depth, used), target)


@kernel
def multiply_step(weights, block, x, x_place, y, y_place, y_step, flags):
    """Compute y[y_place + row * y_step + column of the block] = X times a block; X begins at element `x_place` of x.

    flags: ADD to add it to what y holds, or 0.
    """
    packed, row_offsets, depth, columns, tile_width, strip = weights[:6]
    panels = weights[6:]
    for first_k in range(0, depth, strip):
        steps = min(strip, depth - first_k)
        for column in range(0, columns, tile_width):
            b = (block * depth + first_k) * columns + column
            for panel in range(panels[0]):
                row = panel_start(panels, panel)
                multiply_tile(
                    panel_kernel(panels, panel),
                    (1, steps, simd.at(x, x_place + row * depth + first_k), simd.at(row_offsets, 0),
                     simd.at(row_offsets, 0), simd.at(packed, b), columns),
                    (simd.at(y, y_place + row * y_step + column), y_step, simd.at(y, 0), y.dtype.type(1), tile_width,
                     flags if first_k == 0 else ADD),
                )  # fmt: skip


@kernel
def fetch(a, place, width, block, parts, cells, column, copier):
    """Copy a block's units of each part to every row of cells, from `column` on.

    Row n of `a` has `parts` parts of `width` numbers and begins at a[place + n * parts * width]. copier: kernel of
    `move`, lanes.
    """
    first = block * UNITS
    for part in range(parts):
        move_block(
            copier[0], copier[1], a, place + part * width + first, parts * width, cells, column + part * UNITS,
            cells.shape[1], cells.shape[0], min(UNITS, width - first),
        )  # fmt: skip


@kernel
def store(cells, column, out, place, width, block, parts, copier):
    """Copy them back."""
    first = block * UNITS
    for part in range(parts):
        move_block(
            copier[0], copier[1], cells, column + part * UNITS, cells.shape[1], out, place + part * width + first,
            parts * width, cells.shape[0], min(UNITS, width - first),
        )  # fmt: skip
