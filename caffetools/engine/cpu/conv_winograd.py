"""3 x 3 convolution with stride 1 by Winograd's F(4x4, 3x3); the mathematics is in `winograd`.

Channels are the lanes of every step, so that no vector is wasted at the edge of a small plane: the images are
turned to [pixel][channel] strip by strip and transformed, and for each of the 36 points there is one matrix
product of tiles (of all images) and channels with filters, whose results are transformed and turned back.

A pixel takes part in sums that belong to other outputs of its tile, where it cancels out: a NaN or an
infinity makes its whole tile, and only its tiles, NaN.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

from caffetools.engine.cpu import simd
from caffetools.engine.cpu.conv_channels_image import turn_row
from caffetools.engine.cpu.conv_geometry import Geometry
from caffetools.engine.cpu.conv_packed import PackedProduct
from caffetools.engine.cpu.conv_winograd_cuts import (
    FILTER_COST,
    IMAGE_COST,
    K_BLOCK,
    POINTS,
    RESULT_COST,
    VECTORS,
    Work,
    cut_for,
)
from caffetools.engine.cpu.conv_winograd_filters import transform_all_filters, transform_filters
from caffetools.engine.cpu.finish import Finish, arguments_of, finish_rows
from caffetools.engine.cpu.jit import kernel, parallel_kernel
from caffetools.engine.cpu.kept import Kept
from caffetools.engine.cpu.one_thread import threads_now
from caffetools.engine.cpu.panels import panel_kernel, panel_start
from caffetools.engine.cpu.tiles import ADD, multiply_tile
from caffetools.engine.cpu.turn import turn, turner
from caffetools.engine.cpu.winograd import EDGE, TAPS, TILE, transform, transformer
from caffetools.engine.cpu.workspace import scratch, thread_scratch

#: Transformed filters that stay in an outer cache from one call to the next, more or less.
MOST_KEPT_BYTES = 5 << 20
#: How much longer all takes than multiplications for plain sums do.
SLOWER = 1.25


def is_winograd(geometry: Geometry) -> bool:
    """Say whether a convolution can be done this way. float64 is for those who check, and stays plain."""
    return (
        geometry.images > 0  # a filter may have left none
        and geometry.dtype == np.float32
        and geometry.w_shape[2:] == (TAPS, TAPS)
        and geometry.stride == geometry.dilation == (1, 1)
        and max(geometry.pad) < TAPS
    )


@dataclass(frozen=True)
class Call:
    """What all calls for some number of threads have in common.

    kernels: of `turn`, and of the transforms of images, filters and results. group_rows: tile rows that are transformed
    together. cuts, sizes, layout, points, panels, tile_places, places: see `_multiply`. own: elements of each thread's
    scratch memory for pixels, and for all else. shared: those of transformed images, and of sums that are left, if any.
    """

    kernels: tuple[int, int, int, int]
    group_rows: int
    cuts: tuple[int, int, int, int]
    sizes: tuple[int, int, int, int, int]
    layout: tuple[bool, int, int]
    points: tuple[int, int, int]
    panels: tuple[int, int, int, int, int]
    tile_places: np.ndarray
    places: np.ndarray
    own: tuple[int, int]
    shared: tuple[int, int]


class WinogradProduct(PackedProduct):
    """y from x, or dx from dy if `transposed`; x and y stand for the input and the output of either below."""

    def __init__(self, geometry: Geometry, transposed: bool):
        self.dtype, self.groups, self.transposed = geometry.dtype, geometry.group, transposed
        self.depth, self.rows, self.pad = geometry.group_channels, geometry.group_outputs, geometry.pad
        y_size = geometry.y_shape[2:]
        if transposed:
            self.depth, self.rows = self.rows, self.depth
            self.pad, y_size = tuple(TAPS - 1 - pad for pad in self.pad), geometry.x_shape[2:]
        lanes = simd.lanes_of(self.dtype)
        self.vectors = VECTORS if self.rows > lanes else 1
        self.strip = self.vectors * lanes
        self.strips = -(-self.rows // self.strip)
        self.tile_rows, self.tile_columns = (-(-size // TILE) for size in y_size)
        # Odd numbers of vectors and tiles between what is written together: powers of two would all fall on
        # the same few places of the caches.
        self.pitch = (-(-self.groups * self.depth // lanes) | 1) * lanes
        self.filter_point = self.depth * self.strip + lanes
        self.packed_size = self.groups * self.strips * POINTS * self.filter_point
        #: Transformed filters take four times the memory of filters: many are read more slowly than they are made.
        self.keeps = self.packed_size * self.dtype.itemsize <= MOST_KEPT_BYTES
        self.lanes, self._taps_size = lanes, lanes * (TAPS * TAPS + 1) * lanes
        self._tiling = self.tile_rows, self.tile_columns, self.pitch
        self.images = geometry.images
        self.work = Work(
            self.groups, self.rows, self.depth, lanes, self.strip, self.images * self.tile_rows, self.tile_columns,
            self.pitch, self.dtype.itemsize,
        )  # fmt: skip
        self._calls: dict[tuple[int, bool], Call] = {}

    @property
    def cost(self) -> float:
        """Multiplications for one image, those for nothing and the time for transforms included."""
        tiles, channels = self.tile_rows * self.tile_columns, self.groups * self.depth
        rows = self.strips * self.strip
        products = tiles * channels * rows * POINTS
        filters = FILTER_COST * channels * rows / self.images
        images = tiles * (IMAGE_COST * channels + RESULT_COST * self.groups * rows)
        return SLOWER * (products + images + filters)

    def run(
        self,
        x: np.ndarray,
        w: np.ndarray,
        bias: np.ndarray | None,
        y: np.ndarray,
        finish: Finish | None = None,
        kept: Kept | None = None,
        channel: int = 0,
    ) -> None:
        """Compute y (n, channels, rows, columns) from x."""
        if kept is not None and self.keeps:
            super().run(x, w, bias, y, finish, kept, channel)
        else:
            self._run(x, w.reshape(-1), False, bias, y, finish, channel)

    def pack(self, w: np.ndarray, filters: np.ndarray) -> None:
        """Transform the filters."""
        taps = thread_scratch("winograd taps", self._taps_size, self.dtype)
        transform_all_filters(
            turner(self.dtype), transformer(self.dtype, "filter"), w.reshape(-1), self.transposed, self.strips,
            (self.groups, self.depth, self.rows, self.lanes, self.vectors), taps, filters, self.filter_point,
        )  # fmt: skip

    def run_packed(
        self,
        x: np.ndarray,
        filters: np.ndarray,
        bias: np.ndarray | None,
        y: np.ndarray,
        finish: Finish | None = None,
        channel: int = 0,
    ) -> None:
        """Compute y from x by transformed filters."""
        self._run(x, filters, True, bias, y, finish, channel)

    def _prepare(self, threads, transformed):
        """Return what all calls with so many threads have in common."""
        cut, dtype, lanes = cut_for(self.work, threads, transformed), self.dtype, self.lanes
        points = cut.group_blocks * cut.tiles | 1, self.depth * cut.strip + lanes, cut.tiles * cut.strip + lanes
        image_point, filter_point, result_point = points[0] * self.pitch, *points[1:]
        written = TILE * TILE * self.tile_columns * cut.strip
        own = 0 if transformed else POINTS * filter_point, POINTS * result_point, written, self._taps_size, cut.strip
        jobs = self.groups * cut.strips * cut.depth_parts * cut.group_blocks
        return Call(
            (turner(dtype), *(transformer(dtype, name) for name in ("image", "filter", "result"))),
            cut.group_blocks * cut.block_rows,
            (cut.block_rows, cut.parts, cut.strips, cut.depth_parts),
            (self.groups, self.depth, self.rows, lanes, cut.vectors),
            (transformed, self.strips, self.strip),
            (image_point, self.filter_point if transformed else filter_point, result_point),
            cut.panels.with_kernels(dtype, cut.vectors, form="rows"),
            cut.tile_places,
            np.array([0, *own[:-1]]).cumsum(),
            (EDGE * (self.tile_columns * TILE + TAPS - 1) * lanes, sum(own)),
            (POINTS * image_point, jobs * POINTS * result_point if cut.depth_parts > 1 else 0),
        )

    def _run(self, x, filters, transformed, bias, y, finish, channel):
        key = threads_now(), transformed
        call = self._calls.get(key)
        if call is None:
            call = self._calls[key] = self._prepare(*key)
        dtype, lanes, tiling = self.dtype, self.lanes, self._tiling
        turning, image, filter_address, result = call.kernels
        seen = thread_scratch("winograd pixels", call.own[0], dtype)
        own = thread_scratch("winograd", call.own[1], dtype)
        images = scratch("winograd images", call.shared[0], dtype)
        sums = scratch("winograd sums", call.shared[1], dtype) if call.shared[1] else own[0]
        known_bias, finishing = x.reshape(-1)[:0] if bias is None else bias, arguments_of(finish, dtype)
        for first in range(0, self.work.all_rows, call.group_rows):
            last = min(first + call.group_rows, self.work.all_rows)
            transform_tiles(
                turning, image, x, first, last, EDGE, self.pad, lanes, tiling, images, call.points[0], seen
            )
            _multiply(
                turning, filter_address, result, images, filters, call.layout, known_bias, y, channel, (first, last),
                call.cuts, call.sizes, self.transposed, tiling, call.points, call.panels, call.tile_places,
                call.places, own, sums, finishing,
            )  # fmt: skip
            if call.shared[1]:
                _add_up(
                    turning, result, sums, known_bias, y, channel, (first, last), call.cuts, call.sizes, tiling,
                    call.points[2], call.places, own, finishing,
                )  # fmt: skip


@parallel_kernel
def transform_tiles(turner, address, x, first, last, edge, pad, lanes, tiling, images, point, seen):
    """Transform the tiles of the tile rows from `first` to `last`, which are numbered through all images.

    edge: pixels along the edge of what a tile sees. images: [point][tile][channel], points `point` apart.
    seen: `thread_scratch` of the pixels that one tile row sees of one vector of channels,
    [row][column][channel].
    """
    channels, height, width = x.shape[1:]
    tile_rows, tile_columns, pitch = tiling
    blocks = (channels + lanes - 1) // lanes
    columns = (tile_columns - 1) * TILE + edge
    line = columns * lanes
    left, used = pad[1] * lanes, (pad[1] + min(width, columns - pad[1])) * lanes
    for job in numba.prange((last - first) * blocks):
        row, channel = first + job // blocks, job % blocks * lanes
        n, top = row // tile_rows, row % tile_rows * TILE - pad[0]
        place = numba.get_thread_id() * seen[1]
        for i in range(edge):
            start = place + i * line
            inside = 0 <= top + i < height
            for j in range(start, start + (left if inside else line)):
                seen[0][np.uint64(j)] = 0
            if inside:
                for j in range(start + used, start + line):
                    seen[0][np.uint64(j)] = 0
                source = ((n * channels + channel) * height + top + i) * width
                plane, count = height * width, min(lanes, channels - channel)
                # The next channels come next.
                turn_row(
                    turner, lanes, x, source, plane, count, (used - left) // lanes, lanes * plane, seen[0],
                    start + left, lanes, lanes,
                )  # fmt: skip
        target = simd.at(images, (row - first) * tile_columns * pitch + channel)
        transform(
            address,
            (tile_columns, simd.at(seen[0], place), TILE * lanes, line, lanes),
            (target, pitch, EDGE * point, point, target),
        )


@parallel_kernel
def _multiply(
    turner, filter_address, result_address, images, filters, layout, bias, y, first_channel, tile_row_range, cuts,
    sizes, transposed, tiling, points, panels, tile_places, places, own, sums, finish,
):  # fmt: skip
    """Multiply transformed images and filters.

    filters: as `transform_all_filters` leaves them, or as they are; then each job transforms its part for itself,
    which stays in a near cache. layout: (whether filters are transformed, and if so, strips of a group and rows of a
    strip there). first_channel: the one of y that gets the first result. cuts: (tile rows of a block, parts that the
    blocks are dealt to, strips of a group's rows, parts of the common axis). sizes: (groups, depth, rows, lanes,
    vectors of a strip). tiling, points: as above; distances of two points of transformed images, filters and results.
    places, own: where a thread's filters, results, pixels, taps and bias lie in its `thread_scratch`. sums: where the
    results of more than one part of the common axis are left for `_add_up`,
    [group][strip][block][part][point][tile][row].
    """
    first, last = tile_row_range
    transformed, packed_strips, packed_strip = layout
    block_rows, parts, strips, depth_parts = cuts
    groups, depth, rows, lanes, vectors = sizes
    tile_columns, pitch = tiling[1:]
    image_point, filter_point, result_point = points
    blocks = (last - first + block_rows - 1) // block_rows
    strip, one = vectors * lanes, y.dtype.type(1)
    b_step = packed_strip if transformed else strip
    for job in numba.prange(groups * strips * depth_parts * parts):
        part, depth_part, above = job % parts, job // parts % depth_parts, job // (parts * depth_parts)
        group, row = above // strips, above % strips * strip
        k_range = (0, depth)
        if depth_parts > 1:
            k_range = (depth_part * K_BLOCK, min((depth_part + 1) * K_BLOCK, depth))
        memory, start = own[0], numba.get_thread_id() * own[1]
        place, results = start, start + places[1]
        if transformed:
            packed = group * packed_strips + row // packed_strip
            place = packed * POINTS * filter_point + row % packed_strip
        else:
            transform_filters(
                turner, filter_address, filters, transposed, group, row, k_range, sizes, memory, start + places[3],
                memory, place, filter_point,
            )  # fmt: skip
        _copy_bias(bias, group * rows + row, min(strip, rows - row), memory, start + places[4], strip)
        for block in range(part * blocks // parts, (part + 1) * blocks // parts):
            left = ((above * blocks + block) * depth_parts + depth_part) * POINTS * result_point
            for point in range(POINTS):
                image = point * image_point + block * block_rows * tile_columns * pitch + group * depth
                for first_k in range(k_range[0], k_range[1], K_BLOCK):
                    steps = min(K_BLOCK, k_range[1] - first_k)
                    here = place + point * filter_point + first_k * b_step
                    b = simd.at(filters, here) if transformed else simd.at(memory, here)
                    for panel in range(panels[0]):
                        tile = panel_start(panels, panel)
                        a = simd.at(images, image + tile * pitch + first_k)
                        target = point * result_point + tile * strip
                        c = simd.at(sums, left + target) if depth_parts > 1 else simd.at(memory, results + target)
                        multiply_tile(
                            panel_kernel(panels, panel),
                            (1, steps, a, simd.at(tile_places, 0), simd.at(tile_places, 0), b, b_step),
                            (c, strip, c, one, strip, ADD if first_k > k_range[0] else 0),
                        )
            if depth_parts == 1:
                for i in range(min(block_rows, last - first - block * block_rows)):
                    _write_tiles(
                        turner, result_address, memory, results + i * tile_columns * strip, result_point,
                        start + places[2], start + places[4], sizes, tiling, first + block * block_rows + i,
                        group * rows + row, min(strip, rows - row), y, first_channel, finish,
                    )  # fmt: skip


@parallel_kernel
def _add_up(
    turner, result_address, sums, bias, y, first_channel, tile_row_range, cuts, sizes, tiling, result_point, places,
    own, finish,
):  # fmt: skip
    """Add what `_multiply` has left of all parts of the common axis, in their order, and write it to y."""
    first, last = tile_row_range
    block_rows, _, strips, depth_parts = cuts
    groups, _, rows, lanes, vectors = sizes
    strip, tile_columns, lines = vectors * lanes, tiling[1], last - first
    blocks = (lines + block_rows - 1) // block_rows
    for job in numba.prange(groups * strips * lines):
        above, line = job // lines, job % lines
        group, row = above // strips, above % strips * strip
        memory, start = own[0], numba.get_thread_id() * own[1]
        _copy_bias(bias, group * rows + row, min(strip, rows - row), memory, start + places[4], strip)
        block_place = (above * blocks + line // block_rows) * depth_parts * POINTS * result_point
        for point in range(POINTS):
            target = start + places[1] + point * result_point
            source = block_place + point * result_point + line % block_rows * tile_columns * strip
            for part in range(depth_parts):
                here = source + part * POINTS * result_point
                for i in range(np.uint64(tile_columns * strip)):
                    value = sums[np.uint64(here) + i]
                    memory[np.uint64(target) + i] = value if part == 0 else memory[np.uint64(target) + i] + value
        _write_tiles(
            turner, result_address, memory, start + places[1], result_point, start + places[2], start + places[4],
            sizes, tiling, first + line, group * rows + row, min(strip, rows - row), y, first_channel, finish,
        )  # fmt: skip


@kernel
def _copy_bias(bias, channel, count, memory, place, width):
    """Write the biases of `count` channels, if there are any, and zeros up to `width` to `memory`."""
    for m in range(width):
        memory[place + m] = bias[channel + m] if bias.size > 0 and m < count else 0


@kernel
def _write_tiles(
    turner, address, memory, results, result_point, pixels, biases, sizes, tiling, tile_row, channel, used, y,
    first_channel, finish,
):  # fmt: skip
    """Transform the results of one tile row to [4][column][channel], turn them to their place in y and finish
    them.
    """
    lanes, vectors = sizes[3:]
    tile_rows, tile_columns, _ = tiling
    channels, height, width = y.shape[1:]
    strip, line = vectors * lanes, tile_columns * TILE * vectors * lanes
    for v in range(vectors):
        transform(
            address,
            (tile_columns, simd.at(memory, results + v * lanes), strip, EDGE * result_point, result_point),
            (
                simd.at(memory, pixels + v * lanes),
                TILE * strip,
                line,
                strip,
                simd.at(memory, biases + v * lanes),
            ),
        )
    n, top = tile_row // tile_rows, tile_row % tile_rows * TILE
    for i in range(min(TILE, height - top)):
        target = ((n * channels + first_channel + channel) * height + top + i) * width
        for j in range(0, width, lanes):
            count = min(lanes, width - j)
            turn(
                turner,
                (simd.at(memory, pixels + i * line + j * strip), strip, count, used),
                (simd.at(y, target + j), height * width, count),
            )
    target = ((n * channels + first_channel + channel) * height + top) * width
    finish_rows(finish, channel, y, target, height * width, used, min(TILE, height - top) * width)
