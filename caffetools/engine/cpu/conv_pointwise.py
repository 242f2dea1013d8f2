"""1 x 1 convolution with stride 1 and no padding: a plain product of the filters with each image's planes.

    y[n, m, p] = bias[m] + sum_c w[m, c] x[n, c, p]

The data gradient is the same with the filters transposed. A job makes a block of pixels of one image: the panels of the
filters go by while the planes' part is in a near cache, where it is read as it lies or, for many filters, packed into
strips as by `gemm`.
"""

from __future__ import annotations

from functools import cached_property

import numba
import numpy as np

from caffetools.engine.cpu import simd
from caffetools.engine.cpu.conv_geometry import Geometry
from caffetools.engine.cpu.conv_packed import PackedProduct
from caffetools.engine.cpu.finish import Finish, arguments_of, finish_rows
from caffetools.engine.cpu.gemm import BLOCK_BYTES, reading_of_b
from caffetools.engine.cpu.jit import parallel_kernel
from caffetools.engine.cpu.operands import copiers_of, pack_a, pack_b, pack_count, parts
from caffetools.engine.cpu.panels import Panels, panel_height, panel_kernel, panel_start
from caffetools.engine.cpu.tiles import ADD, BIAS, multiply_tile
from caffetools.engine.cpu.workspace import thread_scratch

#: Vectors of a tile of pixels.
VECTORS = 2
#: Jobs that a call is cut into where its size allows; enough to keep many threads evenly busy.
JOBS = 64
#: How much longer products take than multiplications in registers, and how many multiplications it takes to move an
#: element of x or y, and to pack one of x (measured).
SLOWER, MOVE_COST, PACK_COST = 1.03, 12, 15


def is_pointwise(geometry: Geometry) -> bool:
    """Say whether each output sees the pixel at its own place and no other."""
    return geometry.taps == 1 and geometry.stride == (1, 1) and geometry.pad == (0, 0)


class PointwiseProduct(PackedProduct):
    """y from x, or dx from dy if `transposed`; x and y stand for the input and the output of either below."""

    def __init__(self, geometry: Geometry, transposed: bool):
        self.dtype, self.images, self.groups = geometry.dtype, geometry.images, geometry.group
        self.transposed, self.plane = transposed, geometry.x_plane
        self.depth, self.rows = geometry.group_channels, geometry.group_outputs
        if transposed:
            self.depth, self.rows = self.rows, self.depth
        self.cut = Panels.cut(self.rows, VECTORS)
        self.packed_size = self.groups * self.rows * self.depth
        lanes = simd.lanes_of(self.dtype)
        self.width = VECTORS * lanes
        tiles = -(-self.plane // self.width)
        self.direct, self.steps = reading_of_b(self.rows, self.plane, self.depth, self.cut.tall, self.dtype)
        most = max(1, BLOCK_BYTES // (self.steps * self.width * self.dtype.itemsize))
        images = max(1, self.images * self.groups)
        tile_jobs = -(-tiles // min(most, max(1, images * tiles // JOBS)))
        panel_jobs = min(self.cut.count, -(-JOBS // (images * tile_jobs)))
        #: Tiles and panels of one job.
        self.tile_block, self.panel_block = -(-tiles // tile_jobs), -(-self.cut.count // panel_jobs)
        self._sizes = self.images * self.groups, self.groups, self.depth, self.rows
        self._tiling = lanes, self.width, self.steps, self.tile_block, self.panel_block, self.direct
        self._strips_size = self.tile_block * self.steps * self.width
        inputs, outputs = self.groups * self.depth * self.plane, self.groups * self.rows * self.plane
        #: Multiplications for one image, those for nothing and the time for all else included.
        self.cost = SLOWER * self.groups * self.rows * self.depth * tiles * self.width
        self.cost += MOVE_COST * (inputs + outputs) + (0 if self.direct else PACK_COST * panel_jobs * inputs)

    @cached_property
    def _panels(self):
        return self.cut.with_kernels(self.dtype, VECTORS, form="columns")

    @cached_property
    def _copiers(self):
        return copiers_of(self.dtype)

    def pack(self, w: np.ndarray, packed: np.ndarray) -> None:
        """Cut the filters into panels, [group][panel][k][row of the panel]."""
        filters = w.reshape(self.groups, -1, w.shape[1])
        for group, part in enumerate(packed[: self.packed_size].reshape(self.groups, -1)):
            _pack(self._copiers, self.transposed, filters[group], self._panels, self._tiling[0], part)

    def run_packed(
        self,
        x: np.ndarray,
        filters: np.ndarray,
        bias: np.ndarray | None,
        y: np.ndarray,
        finish: Finish | None = None,
        channel: int = 0,
    ) -> None:
        """Compute y (n, channels, rows, columns) from x by packed filters."""
        known_bias, flags = (filters, 0) if bias is None else (bias, BIAS)
        strips = thread_scratch("gemm b", self._strips_size, self.dtype)
        _multiply(
            self._copiers, filters, x.reshape(-1, self.plane), y, channel, known_bias, flags, strips, self._panels,
            self._sizes, self._tiling, arguments_of(finish, self.dtype),
        )  # fmt: skip


@parallel_kernel
def _pack(copiers, transposed, w, panels, lanes, packed):
    for part in numba.prange(pack_count(transposed, w, panels)):
        pack_a(copiers, transposed, w, panels, part, lanes, packed)


@parallel_kernel
def _multiply(copiers, packed, x, y, first_channel, bias, flags, strips, panels, sizes, tiling, finish):
    """Multiply the planes of all images and groups with the filters.

    x: (image, group and channel; pixels). first_channel: the one of y that gets the first result. flags: of the
    micro-kernels. strips: `thread_scratch` for packed planes.
    sizes: (images times groups, groups, channels of x in a group, of y). tiling: (lanes, pixels of a tile, channels in
    one block, tiles and panels of a job, whether planes are read as they lie).
    """
    images, groups, depth, rows = sizes
    lanes, width, most_steps, tile_block, panel_block, direct = tiling
    plane = x.shape[1]
    tiles = parts(plane, width)
    tile_jobs, panel_jobs = parts(tiles, tile_block), parts(panels[0], panel_block)
    for job in numba.prange(images * tile_jobs * panel_jobs):
        first_panel = job % panel_jobs * panel_block
        last_panel = min(first_panel + panel_block, panels[0])
        first_tile = job // panel_jobs % tile_jobs * tile_block
        last_tile = min(first_tile + tile_block, tiles)
        pixels = min(last_tile * width, plane) - first_tile * width
        image = job // (panel_jobs * tile_jobs)
        channel, strip = image % groups * rows, numba.get_thread_id() * strips[1]
        # Vectors would reach beyond the plane in a tile that is not full.
        first_packed = max(first_tile, min(last_tile, plane // width)) if direct else first_tile
        for first_k in range(0, depth, most_steps):
            steps = min(most_steps, depth - first_k)
            source = image * depth + first_k
            pack_b(copiers, False, x, source, steps, first_packed, last_tile, lanes, width, strips[0], strip)
            for panel in range(first_panel, last_panel):
                start, height = panel_start(panels, panel), panel_height(panels, panel)
                a = simd.at(packed, (channel + start) * depth + first_k * height)
                target = (image // groups * y.shape[1] + first_channel + channel + start) * plane
                for tile in range(first_tile, last_tile):
                    b, b_step = simd.at(x, source * plane + tile * width), plane
                    if tile >= first_packed:
                        b, b_step = simd.at(strips[0], strip + (tile - first_packed) * steps * width), width
                    multiply_tile(
                        panel_kernel(panels, panel),
                        (steps, a, height, b, b_step),
                        (simd.at(y, target + tile * width), plane, simd.at(bias, channel + start), y.dtype.type(1),
                         min(width, plane - tile * width), flags if first_k == 0 else ADD),
                    )  # fmt: skip
                if first_k + steps == depth:
                    finish_rows(finish, channel + start, y, target + first_tile * width, plane, height, pixels)
