"""The gradient of 1 x 1 filters with stride 1 and no padding: a product of planes of dy with planes of x.

    dw[m, c] += sum_n sum_p dy[n, m, p] x[n, c, p]
    db[m] += sum_n sum_p dy[n, m, p]

Pixels are taken in blocks. The part of x that a block has is turned to [pixel][channel], so that the channels are the
lanes; dy is read where it lies. Blocks are summed in fixed chunks, and the chunks in order, so that the sum does not
depend on the number of threads.
"""

from __future__ import annotations

from functools import cached_property

import numba
import numpy as np

from caffetools.engine.cpu import simd
from caffetools.engine.cpu.conv_geometry import Geometry
from caffetools.engine.cpu.jit import kernel, parallel_kernel
from caffetools.engine.cpu.operands import parts
from caffetools.engine.cpu.panels import Panels, panel_height, panel_kernel, panel_start
from caffetools.engine.cpu.sums import total
from caffetools.engine.cpu.tiles import ADD, multiply_tile
from caffetools.engine.cpu.turn import turn, turner
from caffetools.engine.cpu.workspace import scratch, thread_scratch

#: Pixels of a block: a tile of them, turned, stays in the first-level cache.
PIXEL_BLOCK = 256
#: Jobs that a call is cut into where its size allows; the most chunks that are summed apart, and memory for their sums.
JOBS, MOST_CHUNKS, PARTIAL_BYTES = 32, 32, 1 << 20
#: How much longer products take than multiplications in registers, and how many multiplications it takes to read an
#: element of x or dy, to turn one of x, and to add one of the filters (measured).
SLOWER, MOVE_COST, TURN_COST, ADD_COST = 1.05, 5, 10, 40


class PointwiseFilterGradient:
    """dw and db from x and dy."""

    def __init__(self, geometry: Geometry):
        self.geometry, self.dtype, self.plane = geometry, geometry.dtype, geometry.x_plane
        self.rows, self.channels = geometry.group_outputs, geometry.group_channels
        lanes = simd.lanes_of(self.dtype)
        self.vectors = 2 if self.channels > lanes else 1
        self.width = self.vectors * lanes
        self.tiles = -(-self.channels // self.width)
        self.cut = Panels.cut(self.rows, self.vectors)
        blocks = geometry.images * -(-self.plane // PIXEL_BLOCK)
        #: Elements of a chunk's sums: those of the filters, then those of the bias.
        self.chunk = geometry.group * self.rows * (self.channels + 1)
        fitting = PARTIAL_BYTES // (self.chunk * self.dtype.itemsize)
        self.chunks = max(1, min(blocks, MOST_CHUNKS, fitting))
        apart = self.chunks * geometry.group
        tile_jobs = min(self.tiles, -(-JOBS // apart))
        panel_jobs = min(self.cut.count, -(-JOBS // (apart * tile_jobs)))
        #: Tiles and panels of one job.
        self.tile_block, self.panel_block = -(-self.tiles // tile_jobs), -(-self.cut.count // panel_jobs)
        turned = geometry.group * self.tiles * self.width * self.plane
        read = geometry.group * (self.rows * tile_jobs + self.channels * panel_jobs) * self.plane
        #: Multiplications for one image, those for nothing and the time for all else included.
        self.cost = SLOWER * self.rows * turned + TURN_COST * turned * panel_jobs + MOVE_COST * read
        self.cost += ADD_COST * self.chunk * self.chunks / max(1, geometry.images)

    @cached_property
    def _panels(self):
        return self.cut.with_kernels(self.dtype, self.vectors, form="rows")

    @cached_property
    def _row_starts(self):
        return np.arange(self.cut.tall) * self.plane

    def run(self, x: np.ndarray, dy: np.ndarray, dw: np.ndarray, db: np.ndarray | None) -> None:
        """Add the gradients of the filters to dw and, if given, those of the bias to db."""
        partial = scratch("conv partial", self.chunks * self.chunk, self.dtype)[: self.chunks * self.chunk]
        sums = partial.reshape(self.chunks, self.chunk)
        turned = thread_scratch("conv turned", self.tile_block * PIXEL_BLOCK * self.width, self.dtype)
        _multiply(
            turner(self.dtype), x.reshape(-1), dy.reshape(-1), self.plane, db is not None,
            (self.geometry.images, self.geometry.group, self.rows, self.channels),
            (simd.lanes_of(self.dtype), self.width, self.tile_block, self.panel_block),
            self._panels, self._row_starts, turned, sums,
        )  # fmt: skip
        flat = dw.reshape(-1)
        _add_chunks(sums, flat, flat[:0] if db is None else db)


@parallel_kernel
def _multiply(turner, x, dy, plane, biased, sizes, tiling, panels, row_starts, turned, sums):
    """Write the sums of each chunk: [group][output][channel], then those of the bias if `biased`.

    x, dy: flat. sizes: (images, groups, outputs and channels of a group). tiling: (lanes, channels of a tile, tiles and
    panels of a job). row_starts: where the rows of a panel begin. turned: `thread_scratch` for the turned tiles.
    """
    images, groups, rows, channels = sizes
    lanes, width, tile_block, panel_block = tiling
    chunks, one = sums.shape[0], sums.dtype.type(1)
    plane_blocks, tiles = parts(plane, PIXEL_BLOCK), parts(channels, width)
    blocks = images * plane_blocks
    tile_jobs, panel_jobs = parts(tiles, tile_block), parts(panels[0], panel_block)
    for job in numba.prange(chunks * groups * tile_jobs * panel_jobs):
        first_panel = job % panel_jobs * panel_block
        last_panel = min(first_panel + panel_block, panels[0])
        first_tile = job // panel_jobs % tile_jobs * tile_block
        last_tile = min(first_tile + tile_block, tiles)
        chunk, group = divmod(job // (panel_jobs * tile_jobs), groups)
        strips = numba.get_thread_id() * turned[1]
        first_block, last_block = chunk * blocks // chunks, (chunk + 1) * blocks // chunks
        for block in range(first_block, last_block):
            n, pixel = block // plane_blocks * groups + group, block % plane_blocks * PIXEL_BLOCK
            steps, flags = min(PIXEL_BLOCK, plane - pixel), ADD if block > first_block else 0
            for tile in range(first_tile, last_tile):
                strip = strips + (tile - first_tile) * PIXEL_BLOCK * width
                _turn_tile(turner, lanes, x, n * channels, tile * width, channels, plane, pixel, steps,
                           turned[0], strip, width)  # fmt: skip
            for panel in range(first_panel, last_panel):
                start = panel_start(panels, panel)
                source = (n * rows + start) * plane + pixel
                for tile in range(first_tile, last_tile):
                    strip = strips + (tile - first_tile) * PIXEL_BLOCK * width
                    target = (group * rows + start) * channels + tile * width
                    c = simd.at(sums, chunk * sums.shape[1] + target)
                    offsets = simd.at(row_starts, 0)  # the first of them is 0
                    multiply_tile(
                        panel_kernel(panels, panel),
                        (1, steps, simd.at(dy, source), offsets, offsets, simd.at(turned[0], strip), width),
                        (c, channels, c, one, min(width, channels - tile * width), flags),
                    )
                if biased and first_tile == 0:
                    for row in range(panel_height(panels, panel)):
                        here = source + row * plane
                        value = total(dy[here : here + steps])
                        place = groups * rows * channels + group * rows + start + row
                        sums[chunk, place] = value + sums[chunk, place] if flags else value


@kernel
def _turn_tile(turner, lanes, x, first, channel, channels, plane, pixel, steps, turned, place, width):
    """Copy some pixels of the channels of a tile to [pixel][channel], zero beyond the last channel.

    first: the group's first plane among all of x.
    """
    for j in range(0, width, lanes):
        used = max(0, min(lanes, channels - channel - j))
        source = (first + min(channel + j, channels - 1)) * plane + pixel
        turn(turner, (simd.at(x, source), plane, used, steps), (simd.at(turned, place + j), width, lanes))


@parallel_kernel
def _add_chunks(sums, dw, db):
    """Add the chunks, in order, to dw and db, flat; db may be empty."""
    filters = dw.size
    for i in numba.prange(filters + db.size):
        value = sums[0, i]
        for chunk in range(1, sums.shape[0]):
            value += sums[chunk, i]
        if i < filters:
            dw[i] += value
        else:
            db[i - filters] += value
