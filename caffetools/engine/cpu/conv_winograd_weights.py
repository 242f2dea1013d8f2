"""The gradient of 3 x 3 filters with stride 1 by the transposes of Winograd's transforms; see `winograd`.

Pixels and gradients are transformed tile by tile. For each of the 36 points there is one matrix product, of
channels and tiles with tiles and output channels, whose results are transformed to taps and added to dw. For many
threads, the points of a product are dealt to several jobs, and the transforms follow when all are done.
"""

from __future__ import annotations

from functools import cached_property
from itertools import product

import numba
import numpy as np

from caffetools.engine.cpu import simd
from caffetools.engine.cpu.conv_geometry import Geometry
from caffetools.engine.cpu.conv_weights import add_bias_gradient
from caffetools.engine.cpu.conv_winograd import transform_tiles
from caffetools.engine.cpu.conv_winograd_cuts import (
    FILTER_COST,
    GROUP_BYTES,
    IMAGE_COST,
    JOBS,
    POINTS,
    RESULT_COST,
    VECTORS,
)
from caffetools.engine.cpu.jit import kernel, parallel_kernel
from caffetools.engine.cpu.one_thread import threads_now
from caffetools.engine.cpu.panels import Panels, panel_kernel, panel_start
from caffetools.engine.cpu.tiles import ADD, multiply_tile
from caffetools.engine.cpu.turn import turn, turner
from caffetools.engine.cpu.winograd import EDGE, TAPS, TILE, transform, transformer
from caffetools.engine.cpu.workspace import scratch, thread_scratch

#: Tiles that are summed before they are added to others: their transformed gradients stay in the first-level cache,
#: and short sums lose less.
K_BLOCK = 96
#: In how many parts the points may be cut; what it costs to begin a job and to enter one more loop on all threads, in
#: products of a panel; and what it costs to leave a product for another thread, in multiplications.
POINT_PARTS, JOB_PANELS, LOOP_PANELS, LEAVE_COST = (1, 2, 3, 4, 6, 9, 12, 18, 36), 0.5, 30, 24


class WinogradFilterGradient:
    """dw and db from x and dy."""

    def __init__(self, geometry: Geometry):
        self.geometry = geometry
        self.lanes = lanes = simd.lanes_of(geometry.dtype)
        groups, rows, depth = geometry.group, geometry.group_outputs, geometry.group_channels
        self.strip = (VECTORS if rows > lanes else 1) * lanes
        self.strips = -(-rows // self.strip)
        self.tile_rows, self.tile_columns = (-(-size // TILE) for size in geometry.y_shape[2:])
        # Odd distances keep what is used together apart in the caches, as in `WinogradProduct`. A strip that
        # begins at the last output channel is read to its end.
        self.pitch = (-(-groups * depth // lanes) | 1) * lanes
        self.gradient_pitch = (-(-groups * rows // lanes) + VECTORS | 1) * lanes
        all_rows = geometry.images * self.tile_rows
        row_bytes = POINTS * self.tile_columns * (self.pitch + self.gradient_pitch) * geometry.dtype.itemsize
        cuts = -(-all_rows // max(1, GROUP_BYTES // row_bytes))
        self.all_rows, self.group_rows = all_rows, -(-all_rows // cuts)
        tiles = self.group_rows * self.tile_columns | 1
        self.image_point, self.gradient_point = tiles * self.pitch, tiles * self.gradient_pitch
        self.panels = Panels.cut(depth, self.strip // lanes)
        self._seen_size = EDGE * (self.tile_columns * TILE + TAPS - 1) * lanes
        self._taps_size = TAPS * TAPS * lanes * lanes
        self._calls: dict[int, tuple[tuple[int, int, int], int, int, int]] = {}

    def cut(self, threads: int) -> tuple[int, int]:
        """Return in how many parts the panels of channels are cut for so many threads, and in how many the points."""
        fewest = min(self.panels.count, max(1, JOBS // (self.geometry.group * self.strips)))
        if threads <= 2:
            return fewest, 1
        cuts = product(range(fewest, self.panels.count + 1), POINT_PARTS)
        return min(cuts, key=lambda cut: self._time(cut, threads))

    def _time(self, cut, threads):
        """Return how long so many threads take, in panels of one point; more jobs read more than once."""
        parts, point_parts = cut
        jobs = -(-self.geometry.group * self.strips * parts * point_parts // threads)
        panels = -(-self.panels.count // parts) + JOB_PANELS
        if point_parts > 1:
            panels *= 1 + LEAVE_COST / (self.group_rows * self.tile_columns)
        return jobs * panels * POINTS / point_parts + (LOOP_PANELS if point_parts > 1 else 0)

    @property
    def cost(self) -> float:
        """Multiplications for one image that would take as long, done by `FilterGradient`."""
        g = self.geometry
        tiles, channels, rows = self.tile_rows * self.tile_columns, g.x_shape[1], self.strips * self.strip
        products = tiles * channels * rows * POINTS
        transforms = tiles * (IMAGE_COST * channels + RESULT_COST * g.group * rows)
        return products + transforms + FILTER_COST * channels * rows / g.images

    def _prepare(self, threads):
        """Return what all calls with so many threads have in common: (parts, strips, parts of the points); the distance
        of two points of products; elements of a thread's scratch memory, and of products that are left."""
        parts, point_parts = self.cut(threads)
        point = self.panels.tall * -(-self.panels.count // parts) * self.strip + self.lanes
        products, apart = POINTS * point, point_parts > 1
        own = 2 * self._taps_size + (0 if apart else products)
        left = self.geometry.group * self.strips * parts * products if apart else 0
        return (parts, self.strips, point_parts), point, own, left

    @cached_property
    def _kernels(self):
        """The kernels of `turn` and of the transforms, and the panels with theirs."""
        dtype = self.geometry.dtype
        transforms = (transformer(dtype, name) for name in ("image", "gradient", "taps"))
        return turner(dtype), *transforms, self.panels.with_kernels(dtype, self.strip // self.lanes)

    def run(self, x: np.ndarray, dy: np.ndarray, dw: np.ndarray, db: np.ndarray | None) -> None:
        threads = threads_now()
        if threads not in self._calls:
            self._calls[threads] = self._prepare(threads)
        cuts, point, own_size, left = self._calls[threads]
        g, lanes, size = self.geometry, self.lanes, self._taps_size
        turning, image, gradient, taps, panels = self._kernels
        seen = thread_scratch("winograd pixels", self._seen_size, g.dtype)
        images = scratch("winograd images", POINTS * self.image_point, g.dtype)
        gradients = scratch("winograd gradients", POINTS * self.gradient_point, g.dtype)
        own = thread_scratch("winograd", own_size, g.dtype)
        # What all jobs have made, where others go on with it.
        products = scratch("winograd sums", left, g.dtype) if left else own[0]
        sizes, pitches = (g.group, lanes, self.strip), (self.pitch, self.gradient_pitch)
        x_tiling, dy_tiling = ((self.tile_rows, self.tile_columns, pitch) for pitch in pitches)
        for first in range(0, self.all_rows, self.group_rows):
            last = min(first + self.group_rows, self.all_rows)
            transform_tiles(
                turning, image, x, first, last, EDGE, g.pad, lanes, x_tiling, images, self.image_point, seen
            )
            transform_tiles(
                turning, gradient, dy, first, last, TILE, (0, 0), lanes, dy_tiling, gradients,
                self.gradient_point, seen,
            )  # fmt: skip
            _multiply(
                turning, taps, images, gradients, dw, (last - first) * self.tile_columns, cuts, sizes,
                pitches, (self.image_point, self.gradient_point, point), panels, size, own, products,
            )  # fmt: skip
            if left:
                _add_all_taps(turning, taps, products, point, dw, cuts, sizes, panels, size, own)
        if db is not None:
            add_bias_gradient(dy, db)


@parallel_kernel
def _multiply(
    turner, address, images, gradients, dw, tiles, cuts, sizes, pitches, points, panels, taps_size, own, products
):
    """Add the products of some tiles to dw, or leave them in `products` where the points are cut.

    cuts: (parts that the panels of channels are dealt to, strips of a group's outputs, parts of the points). sizes:
    (groups, lanes, outputs of a strip). pitches: distances of two tiles of images and of gradients. points: distances
    of two points of images, gradients and products. own: `thread_scratch` for the products, unless they are left, and
    twice `taps_size`. products: [group][strip][part of the panels][point][channel][row of the strip].
    """
    parts, strips, point_parts = cuts
    groups, _, strip = sizes
    rows, depth = dw.shape[0] // groups, dw.shape[1]
    one = dw.dtype.type(1)
    for job in numba.prange(groups * strips * parts * point_parts):
        place, point_part = job // point_parts, job % point_parts
        part, group, row = place % parts, place // (parts * strips), place // parts % strips * strip
        start = place * POINTS * points[2] if point_parts > 1 else numba.get_thread_id() * own[1]
        first_panel, last_panel = part * panels[0] // parts, (part + 1) * panels[0] // parts
        first_channel = panel_start(panels, first_panel)
        for point in range(point_part * POINTS // point_parts, (point_part + 1) * POINTS // point_parts):
            a_place = point * points[0] + group * depth
            b_place = point * points[1] + group * rows + row
            for first in range(0, tiles, K_BLOCK):
                b = simd.at(gradients, b_place + first * pitches[1])
                for panel in range(first_panel, last_panel):
                    channel = panel_start(panels, panel)
                    c = simd.at(products, start + point * points[2] + (channel - first_channel) * strip)
                    multiply_tile(
                        panel_kernel(panels, panel),
                        (
                            min(K_BLOCK, tiles - first),
                            simd.at(images, a_place + first * pitches[0] + channel),
                            pitches[0],
                            b,
                            pitches[1],
                        ),
                        (c, strip, c, one, strip, ADD if first > 0 else 0),
                    )
        if point_parts == 1:
            channels = first_channel, panel_start(panels, last_panel)
            _add_part(
                turner, address, products, start, points[2], dw, group, row, first_channel, channels, sizes, own[0],
                start + POINTS * points[2], taps_size,
            )  # fmt: skip


@parallel_kernel
def _add_all_taps(turner, address, products, point, dw, cuts, sizes, panels, taps_size, own):
    """Add the products that `_multiply` has left to dw, some channels in each job."""
    parts, strips, _ = cuts
    groups, lanes, strip = sizes
    blocks = (panels[1] * ((panels[0] + parts - 1) // parts) + lanes - 1) // lanes
    for job in numba.prange(groups * strips * parts * blocks):
        block, place = job % blocks, job // blocks
        part, group, row = place % parts, place // (parts * strips), place // parts % strips * strip
        start = panel_start(panels, part * panels[0] // parts)
        end, first = panel_start(panels, (part + 1) * panels[0] // parts), start + block * lanes
        _add_part(
            turner, address, products, place * POINTS * point, point, dw, group, row, start,
            (first, min(first + lanes, end)), sizes, own[0], numba.get_thread_id() * own[1], taps_size,
        )  # fmt: skip


@kernel
def _add_part(
    turner, address, products, place, point, dw, group, row, first_channel, channels, sizes, memory, taps, taps_size
):
    """Add the products of a range of channels to the filters of a strip.

    place, first_channel: where the products begin, and the channel that they begin with. memory, taps: room for twice
    `taps_size`.
    """
    groups, lanes, strip = sizes
    rows = dw.shape[0] // groups
    for channel in range(channels[0], channels[1], lanes):
        count = min(lanes, channels[1] - channel)
        for v in range(0, min(strip, rows - row), lanes):
            here = place + (channel - first_channel) * strip + v
            _add_taps(
                turner, address, products, here, point, strip, lanes, memory, taps, taps_size, count, dw,
                group * rows + row + v, min(lanes, rows - row - v), channel,
            )  # fmt: skip


@kernel
def _add_taps(
    turner, address, products, place, point, strip, lanes, memory, taps, taps_size, count, dw, row, rows, channel
):
    """Transform the products of `count` channels and add them to `rows` filters of dw."""
    size = TAPS * TAPS
    out = simd.at(memory, taps)
    transform(
        address,
        (count, simd.at(products, place), strip, EDGE * point, point),
        (out, size * lanes, TAPS * lanes, lanes, out),
    )
    turned, line = taps + taps_size, lanes * size
    for k in range(0, count * size, lanes):
        turn(
            turner,
            (simd.at(memory, taps + k * lanes), lanes, min(lanes, count * size - k), lanes),
            (simd.at(memory, turned + k), line, lanes),
        )
    flat = dw.reshape(-1)
    for m in range(rows):
        target, source = ((row + m) * dw.shape[1] + channel) * size, turned + m * line
        for k in range(np.uint64(count * size)):
            flat[np.uint64(target) + k] += memory[np.uint64(source) + k]
