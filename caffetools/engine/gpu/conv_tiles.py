"""Convolution and its data gradient as matrix products without an unfolded copy (implicit GEMM).

    y[n, row, out(i, j)] = bias[row] + sum over k of w[row, place of k] x[n, ..., (i, j) step + line and column of k]

Another blob may be added and a ReLU applied as the outputs are written (see `finish`).

A block computes a tile of rows (outputs, or channels of dx) times columns (pixels of all items) for a group of channels
and a class of pixels. It brings DEPTH steps of k at a time into shared memory, where each of its threads multiplies a
few rows by a few columns in registers. The steps are added in their order whatever the tile: results depend neither on
the device nor on the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numba import cuda

from caffetools.engine.gpu.conv_geometry import (
    CLASS,
    STEP,
    Geometry,
    spread_tables,
    window_class,
    window_table,
)
from caffetools.engine.gpu.device import current
from caffetools.engine.gpu.events import simulated
from caffetools.engine.gpu.finish import optional
from caffetools.engine.gpu.index import quotient
from caffetools.engine.gpu.launch import Kernel, cuda_kernel
from caffetools.engine.gpu.memory import to_device

#: A block has SIDE x SIDE threads.
SIDE = 2 if simulated() else 16
THREADS = SIDE * SIDE
#: Steps of k in shared memory.
DEPTH = 2 if simulated() else 8
#: Elements between two steps in shared memory, so that threads do not write into the same bank.
GAP = 4
#: Blocks that a multiprocessor computes side by side, by the registers of the larger tiles.
BLOCKS_PER_PROCESSOR = 2
#: Most blocks of a launch; those there are go on with the tiles that are left.
MOST_BLOCKS = 1 << 20

#: Rows and columns of a thread, and what a block gets done with them, relative to the largest: the more a thread
#: multiplies for each element that it reads from shared memory, the faster it is. 8 x 8 needs more than 200 registers.
EACH = {(8, 4): 1.0, (4, 4): 0.8, (2, 8): 0.65, (2, 4): 0.55, (2, 2): 0.4}


def choose_tile(
    rows: int, columns: int, jobs: int, processors: int, among: Iterable[tuple[int, int]] = EACH
) -> tuple[int, int]:
    """Return the rows and columns of a thread, of those that there are, with which the products take the least time.

    jobs: how many products of rows x columns there are. processors: of the device. The grid runs in waves, and in the
    last one, or in tiles that hang over the edge, a block takes as long as elsewhere.
    """

    def time(each):
        height, width = 16 * each[0], 16 * each[1]
        blocks = -(-rows // height) * -(-columns // width) * jobs
        waves = -(-blocks // (processors * BLOCKS_PER_PROCESSOR))
        return waves * height * width / EACH[each]

    return min(among, key=time)


class GatheredProduct:
    """A product of a matrix of weights with gathered columns, for given shapes.

    rows: of a group. groups, items: how many. table, classes: see `conv_geometry`. source: lines and columns of x's
    planes. step: pixels of x between two of y. steps: elements between items and groups of x; groups and rows of w;
    items, groups and rows of y. target: columns of y's planes, and lines and columns between two pixels of a class.
    each: rows and columns of a thread; those that suit the shapes where it is None.
    """

    def __init__(self, rows, groups, items, table, classes, source, step, steps, target, each=None):
        engine = current()
        columns = items * max(down * across for _, _, down, across, _, _ in classes.tolist())
        self.empty = columns == 0 or rows == 0
        each = each or choose_tile(rows, columns, groups * len(classes), engine.processors)
        self.kernel = KERNELS[each]
        height, width = (SIDE * size for size in sizes_of(each))
        down, across = -(-rows // height), -(-columns // width)
        self.blocks = min(down * across * groups * len(classes), MOST_BLOCKS)
        shape = [rows, groups, items, *source, *step, *steps, *target, down, across]
        self._shape = to_device(engine, np.array(shape, np.int64))
        self._table, self._classes = to_device(engine, table), to_device(engine, classes)

    @classmethod
    def forward(cls, g: Geometry, each: tuple[int, int] | None = None) -> GatheredProduct:
        """The convolution: y from x."""
        depth = g.group_channels * g.taps
        steps = (
            *(g.channels * g.x_plane, g.group_channels * g.x_plane),
            *(g.group_outputs * depth, depth),
            *(g.outputs * g.y_plane, g.group_outputs * g.y_plane, g.y_plane),
        )
        tables, target = (window_table(g), window_class(g)), (g.across, 1, 1)
        sizes = g.group_outputs, g.group, g.items
        return cls(*sizes, *tables, (g.height, g.width), g.stride, steps, target, each)

    @classmethod
    def backward(cls, g: Geometry, each: tuple[int, int] | None = None) -> GatheredProduct:
        """The data gradient: dx from dy."""
        steps = (
            *(g.outputs * g.y_plane, g.group_outputs * g.y_plane),
            *(g.group_outputs * g.group_channels * g.taps, g.taps),
            *(g.channels * g.x_plane, g.group_channels * g.x_plane, g.x_plane),
        )
        tables, target = spread_tables(g), (g.width, *g.stride)
        sizes = g.group_channels, g.group, g.items
        return cls(*sizes, *tables, (g.down, g.across), (1, 1), steps, target, each)

    def run(self, w, x, bias, y, residual=None, slope: float = 1.0) -> None:
        """Compute y; bias: an array with an element for each row of all groups, or None. The rest: see `finish`."""
        if self.empty:
            return
        engine = current()
        blocks = min(self.blocks, 2) if engine.simulated else self.blocks
        steps = *optional(bias, w), *optional(residual, w), y.dtype.type(slope)
        tables = self._shape, self._classes, self._table
        self.kernel.start(engine, blocks, THREADS, (w, x, *steps, y, *tables))


def sizes_of(each: tuple[int, int]) -> tuple[int, int]:
    """Return the rows and columns of a thread here: fewer in the simulator, where a thread is one of Python."""
    return (2, 2) if simulated() else each


def named(function: Callable, each: tuple[int, int]) -> Kernel:
    """Make a kernel whose name tells its tile: those of one source differ in their constants."""
    function.__name__ += "_{}x{}".format(*(16 * size for size in each))
    return cuda_kernel(function)


def _make(each):
    each_row, each_column = sizes_of(each)
    tile_rows, tile_columns = SIDE * each_row, SIDE * each_column
    width_w = tile_rows + GAP
    loads_w, lines_w = tile_rows * DEPTH // THREADS, THREADS // DEPTH
    loads_x, lines_x = DEPTH * tile_columns // THREADS, THREADS // tile_columns

    def product(w, x, bias, has_bias, residual, has_residual, slope, y, shape, classes, table):
        strip_w = cuda.shared.array((DEPTH, width_w), x.dtype)
        strip_x = cuda.shared.array((DEPTH, tile_columns), x.dtype)
        sums = cuda.local.array((each_row, each_column), x.dtype)
        factors = cuda.local.array(each_row, x.dtype)
        zero = x.dtype.type(0)
        thread = cuda.threadIdx.x
        line_of_thread, column_of_thread = thread // SIDE, thread % SIDE
        rows, groups, items = shape[0], shape[1], shape[2]
        height, width, step_line, step_column = shape[3], shape[4], shape[5], shape[6]
        x_item, x_group, w_group, w_row = shape[7], shape[8], shape[9], shape[10]
        y_item, y_group, y_row = shape[11], shape[12], shape[13]
        y_width, y_line, y_column = shape[14], shape[15], shape[16]
        down, across = shape[17], shape[18]
        # The step and the row that the thread reads of w, and the column and the first step of x.
        own_k, own_row = thread % DEPTH, thread // DEPTH
        own_column, own_line = thread % tile_columns, thread // tile_columns
        for job in range(cuda.blockIdx.x, down * across * groups * (classes.size // CLASS), cuda.gridDim.x):
            tile = quotient(job, groups)
            group = job - tile * groups
            strip = quotient(tile, down)
            first_row = (tile - strip * down) * tile_rows
            kind = quotient(strip, across)
            first_column = (strip - kind * across) * tile_columns
            y_first_line, y_first_column = classes[CLASS * kind], classes[CLASS * kind + 1]
            lines, columns = classes[CLASS * kind + 2], classes[CLASS * kind + 3]
            first_step, depth = classes[CLASS * kind + 4], classes[CLASS * kind + 5]
            pixels = items * lines * columns
            column = first_column + own_column
            inside = column < pixels
            item = quotient(column, lines * columns)
            pixel = column - item * lines * columns
            i = quotient(pixel, columns)
            top, left = i * step_line, (pixel - i * columns) * step_column
            at_x = item * x_item + group * x_group + top * width + left
            at_w = group * w_group + (first_row + own_row) * w_row
            for a in range(each_row):
                for b in range(each_column):
                    sums[a, b] = zero
            for first_k in range(0, depth, DEPTH):
                step = STEP * (first_step + first_k + own_k)
                for a in range(loads_w):
                    value = zero
                    if first_k + own_k < depth and first_row + own_row + a * lines_w < rows:
                        value = w[at_w + a * lines_w * w_row + table[step]]
                    strip_w[own_k, own_row + a * lines_w] = value
                for a in range(loads_x):
                    k = own_line + a * lines_x
                    value = zero
                    if inside and first_k + k < depth:
                        step = STEP * (first_step + first_k + k)
                        u, v = top + table[step + 2], left + table[step + 3]
                        if u >= 0 and u < height and v >= 0 and v < width:
                            value = x[at_x + table[step + 1]]
                    strip_x[k, own_column] = value
                cuda.syncthreads()
                for k in range(DEPTH):
                    for a in range(each_row):
                        factors[a] = strip_w[k, line_of_thread + a * SIDE]
                    for b in range(each_column):
                        factor = strip_x[k, column_of_thread + b * SIDE]
                        for a in range(each_row):
                            sums[a, b] += factors[a] * factor
                cuda.syncthreads()
            for b in range(each_column):
                column = first_column + column_of_thread + b * SIDE
                if column < pixels:
                    item = quotient(column, lines * columns)
                    pixel = column - item * lines * columns
                    i = quotient(pixel, columns)
                    j = pixel - i * columns
                    at_y = item * y_item + group * y_group
                    at_y += (y_first_line + i * y_line) * y_width + y_first_column + j * y_column
                    for a in range(each_row):
                        row = first_row + line_of_thread + a * SIDE
                        if row < rows:
                            value = sums[a, b]
                            if has_bias:
                                value += bias[group * rows + row]
                            place = at_y + row * y_row
                            if has_residual:
                                value += residual[place]
                            # A NaN goes through.
                            y[place] = slope * value if value < zero else value

    return named(product, each)


KERNELS = {each: _make(each) for each in EACH}
product_128x64, product_64x64, product_32x128, product_32x64, product_32x32 = KERNELS.values()
