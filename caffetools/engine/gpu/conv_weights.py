"""The gradients of a convolution's weights and bias.

    dw[row, k] += sum over pixels p of dy[row, p] x[k, p]      k = (channel, tap), p = (item, i, j)

is a product with few rows and columns and many steps. The steps are cut into parts so that there is a block for each
processor; the sums of the parts are written side by side and added in their order, the same on every device.
"""

from __future__ import annotations

import numpy as np
from numba import cuda

from caffetools.engine.gpu.conv_geometry import STEP, Geometry, window_table
from caffetools.engine.gpu.conv_tiles import SIDE, THREADS, choose_tile, named, sizes_of
from caffetools.engine.gpu.device import current
from caffetools.engine.gpu.events import simulated
from caffetools.engine.gpu.index import quotient
from caffetools.engine.gpu.launch import THREADS as REDUCING
from caffetools.engine.gpu.launch import cuda_kernel, launch, launch_blocks
from caffetools.engine.gpu.memory import to_device
from caffetools.engine.gpu.reduce import block_sum

#: Pixels in shared memory.
DEPTH = 2 if simulated() else 16
#: Elements between two pixels in shared memory beyond those of the tile, see `conv_tiles`.
GAP = 2
#: Rows and columns of a thread: with larger ones it would need more than 128 registers.
EACH = (4, 4), (2, 4), (2, 2)
#: Blocks that a gradient is cut into, and the fewest pixels of a part. Not by the device's number of processors: the
#: order of the additions would differ from one device to another.
BLOCKS, FEWEST = (32, 4) if simulated() else (512, 512)
#: Most elements of all parts together.
MOST_PARTS = 1 << 26


class WeightGradient:
    """The weight gradient for given shapes, added to what the array holds.

    each, parts: rows and columns of a thread, and the parts into which the pixels are cut; what suits the shapes where
    they are None.
    """

    def __init__(self, g: Geometry, dtype, each: tuple[int, int] | None = None, parts: int | None = None):
        engine = current()
        self.weights, self.empty = g.weights, g.items * g.y_plane == 0
        rows, columns, pixels = g.group_outputs, g.group_channels * g.taps, g.items * g.y_plane
        # As if for one processor: the parts see to it that all have work, and must be the same everywhere.
        each = each or choose_tile(rows, columns, 1, 1, EACH)
        self.kernel = KERNELS[each]
        height, width = (SIDE * size for size in sizes_of(each))
        down, across = -(-rows // height), -(-columns // width)
        wanted = -(-BLOCKS // (down * across * g.group))
        self.parts = parts or max(1, min(wanted, pixels // FEWEST, MOST_PARTS // g.weights))
        self.blocks = down * across * g.group * self.parts
        part = -(-pixels // self.parts)
        engine.workspace.reserve(self.parts * self.weights, dtype)
        shape = [rows, columns, g.group, pixels, part, g.y_plane, g.across, g.height, g.width, *g.stride]
        shape += [g.channels * g.x_plane, g.group_channels * g.x_plane, g.outputs * g.y_plane]
        self._shape = to_device(engine, np.array([*shape, down, across, self.parts], np.int64))
        self._table = to_device(engine, window_table(g))

    def add(self, x, dy, dw) -> None:
        """Add the gradient to dw."""
        if self.empty:
            return
        engine = current()
        parts = engine.workspace.array(dw.dtype)
        blocks = min(self.blocks, 2) if engine.simulated else self.blocks
        self.kernel.start(engine, blocks, THREADS, (x, dy, parts, self._shape, self._table))
        launch(add_parts, self.weights, parts, self.parts, dw)


class BiasGradient:
    """The sums of dy over items and pixels for given shapes, added to what the array holds."""

    def __init__(self, items: int, channels: int, plane: int, dtype):
        self.items, self.channels, self.plane = items, channels, plane
        self.parts = max(1, min(items, BLOCKS // channels))
        current().workspace.reserve(self.parts * channels, dtype)

    def add(self, dy, db) -> None:
        """Add the sums to db."""
        if dy.size == 0:
            return
        parts = current().workspace.array(db.dtype)
        sizes = self.items, self.channels, self.plane, self.parts
        launch_blocks(channel_sums, self.channels * self.parts, REDUCING, dy, *sizes, parts)
        launch(add_parts, self.channels, parts, self.parts, db)


@cuda_kernel
def add_parts(values, parts, sums):
    """sums_i += sum over p of values_(p i), the parts in their order."""
    for i in range(cuda.grid(1), sums.size, cuda.gridsize(1)):
        total = values[i]
        for part in range(1, parts):
            total += values[part * sums.size + i]
        sums[i] += total


@cuda_kernel
def channel_sums(x, items, channels, plane, parts, sums):
    """sums_(p c) = sum of x_(n c i) over pixels i and the items n of part p; a block for each."""
    shared = cuda.shared.array(REDUCING, x.dtype)
    thread = cuda.threadIdx.x
    for job in range(cuda.blockIdx.x, channels * parts, cuda.gridDim.x):
        part, channel = job // channels, job % channels
        own = x.dtype.type(0)
        for item in range(part * items // parts, (part + 1) * items // parts):
            first = (item * channels + channel) * plane
            for i in range(first + thread, first + plane, cuda.blockDim.x):
                own += x[i]
        total = block_sum(own, shared)
        if thread == 0:
            sums[job] = total


def _make(each):
    each_row, each_column = sizes_of(each)
    tile_rows, tile_columns = SIDE * each_row, SIDE * each_column
    width_y, width_x = tile_rows + GAP, tile_columns + GAP
    lines = THREADS // DEPTH
    loads_y, loads_x = tile_rows // lines, tile_columns // lines

    def gradient(x, dy, parts, shape, table):
        strip_y = cuda.shared.array((DEPTH, width_y), x.dtype)
        strip_x = cuda.shared.array((DEPTH, width_x), x.dtype)
        sums = cuda.local.array((each_row, each_column), x.dtype)
        factors = cuda.local.array(each_row, x.dtype)
        offsets = cuda.local.array(loads_x, np.int32)
        tap_lines = cuda.local.array(loads_x, np.int32)
        tap_columns = cuda.local.array(loads_x, np.int32)
        zero = x.dtype.type(0)
        thread = cuda.threadIdx.x
        line_of_thread, column_of_thread = thread // SIDE, thread % SIDE
        rows, columns, groups, pixels, part_size = shape[0], shape[1], shape[2], shape[3], shape[4]
        plane, y_width, height, width = shape[5], shape[6], shape[7], shape[8]
        step_line, step_column, x_item, x_group = shape[9], shape[10], shape[11], shape[12]
        y_item, down, across, count = shape[13], shape[14], shape[15], shape[16]
        # The pixel that the thread reads, and its first row of dy and of the gathered x.
        own_pixel, own_line = thread % DEPTH, thread // DEPTH
        for job in range(cuda.blockIdx.x, down * across * groups * count, cuda.gridDim.x):
            rest = quotient(job, groups)
            group = job - rest * groups
            tile = quotient(rest, down)
            first_row = (rest - tile * down) * tile_rows
            part = quotient(tile, across)
            first_column = (tile - part * across) * tile_columns
            for a in range(loads_x):
                k = first_column + own_line + a * lines
                # A column beyond the last one reads the first element of every pixel, and is written nowhere.
                step = STEP * k if k < columns else 0
                offsets[a], tap_lines[a], tap_columns[a] = table[step + 1], table[step + 2], table[step + 3]
            for a in range(each_row):
                for b in range(each_column):
                    sums[a, b] = zero
            last = min((part + 1) * part_size, pixels)
            for first_pixel in range(part * part_size, last, DEPTH):
                place = first_pixel + own_pixel
                inside = place < last
                item = quotient(place, plane)
                pixel = place - item * plane
                i = quotient(pixel, y_width)
                top, left = i * step_line, (pixel - i * y_width) * step_column
                at_y = item * y_item + group * rows * plane + pixel
                at_x = item * x_item + group * x_group + top * width + left
                for a in range(loads_y):
                    row = own_line + a * lines
                    value = zero
                    if inside and first_row + row < rows:
                        value = dy[at_y + (first_row + row) * plane]
                    strip_y[own_pixel, row] = value
                for a in range(loads_x):
                    value = zero
                    u, v = top + tap_lines[a], left + tap_columns[a]
                    if inside and u >= 0 and u < height and v >= 0 and v < width:
                        value = x[at_x + offsets[a]]
                    strip_x[own_pixel, own_line + a * lines] = value
                cuda.syncthreads()
                for k in range(DEPTH):
                    for a in range(each_row):
                        factors[a] = strip_y[k, line_of_thread + a * SIDE]
                    for b in range(each_column):
                        factor = strip_x[k, column_of_thread + b * SIDE]
                        for a in range(each_row):
                            sums[a, b] += factors[a] * factor
                cuda.syncthreads()
            for a in range(each_row):
                row = first_row + line_of_thread + a * SIDE
                for b in range(each_column):
                    column = first_column + column_of_thread + b * SIDE
                    if row < rows and column < columns:
                        parts[((part * groups + group) * rows + row) * columns + column] = sums[a, b]

    return named(gradient, each)


KERNELS = {each: _make(each) for each in EACH}
gradient_64x64, gradient_32x64, gradient_32x32 = KERNELS.values()
