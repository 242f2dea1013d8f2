"""3 x 3 convolution with stride 1 by Winograd's F(4x4, 3x3); the mathematics is in `winograd`.

Channels are the lanes of every step, so that no vector is wasted at the edge of a small plane: the images are
turned to [pixel][channel] strip by strip and transformed, and for each of the 36 points there is one matrix
product of tiles (of all images) and channels with filters, whose results are transformed and turned back.

A pixel takes part in sums that belong to other outputs of its tile, where it cancels out: a NaN or an
infinity makes its whole tile, and only its tiles, NaN.
"""

from __future__ import annotations

import numba
import numpy as np

from caffetools.engine.cpu import simd
from caffetools.engine.cpu.conv_channels_image import turn_row
from caffetools.engine.cpu.conv_filters import turn_filters
from caffetools.engine.cpu.conv_geometry import Geometry
from caffetools.engine.cpu.conv_packed import PackedProduct
from caffetools.engine.cpu.finish import Finish, arguments_of, finish_rows
from caffetools.engine.cpu.jit import kernel, parallel_kernel
from caffetools.engine.cpu.kept import Kept
from caffetools.engine.cpu.panels import Panels, panel_kernel, panel_start
from caffetools.engine.cpu.tiles import ADD, multiply_tile
from caffetools.engine.cpu.turn import turn, turner
from caffetools.engine.cpu.winograd import EDGE, TAPS, TILE, transform, transformer
from caffetools.engine.cpu.workspace import scratch, thread_scratch

POINTS = EDGE * EDGE
#: Transformed images that are made before they are used.
GROUP_BYTES = 8 << 20
#: Tiles that are multiplied with a job's filters before the next: their results stay in an outer cache.
BLOCK_TILES = 64
#: Jobs that a call is cut into where its size allows; each transforms its filters for itself.
JOBS = 32
#: Steps of the common axis that are summed before they are added to others: their filters stay in the first-level
#: cache, and short sums lose less: the transforms enlarge the errors of long ones.
K_BLOCK = 128
#: Transformed filters that stay in an outer cache from one call to the next, more or less.
MOST_KEPT_BYTES = 5 << 20
#: Vectors of channels that are filtered at a time.
VECTORS = 2
#: What it costs to transform the six pixels by six of a tile, the results of one, and a filter, in
#: multiplications, and how much longer all takes than multiplications for plain sums do.
SLOWER = 1.25
IMAGE_COST, RESULT_COST, FILTER_COST = 800, 500, 300


def is_winograd(geometry: Geometry) -> bool:
    """Say whether a convolution can be done this way. float64 is for those who check, and stays plain."""
    return (
        geometry.images > 0  # a filter may have left none
        and geometry.dtype == np.float32
        and geometry.w_shape[2:] == (TAPS, TAPS)
        and geometry.stride == geometry.dilation == (1, 1)
        and max(geometry.pad) < TAPS
    )


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
        all_rows = geometry.images * self.tile_rows
        self.block_rows = min(all_rows, max(1, BLOCK_TILES // self.tile_columns))
        blocks = -(-all_rows // self.block_rows)
        row_bytes = POINTS * self.tile_columns * self.pitch * self.dtype.itemsize
        self.group_blocks = min(blocks, max(1, GROUP_BYTES // (row_bytes * self.block_rows)))
        self.group_blocks = -(-blocks // -(-blocks // self.group_blocks))
        self.all_rows = all_rows
        self.tiles = self.block_rows * self.tile_columns
        self.panels = Panels.cut(self.tiles, self.vectors)
        self.tile_places = np.arange(self.panels.tall) * self.pitch
        self.image_point = (self.group_blocks * self.tiles | 1) * self.pitch
        self.filter_point = self.depth * self.strip + lanes
        self.packed_size = self.groups * self.strips * POINTS * self.filter_point
        #: Transformed filters take four times the memory of filters: many are read more slowly than they are made.
        self.keeps = self.packed_size * self.dtype.itemsize <= MOST_KEPT_BYTES
        self._sizes = self.groups, self.depth, self.rows, lanes, self.vectors
        self._taps_size = lanes * (TAPS * TAPS + 1) * lanes
        self.result_point = self.tiles * self.strip + lanes
        self.parts = min(self.group_blocks, max(1, JOBS // (self.groups * self.strips)))
        self.images = geometry.images

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
        _transform_all_filters(
            turner(self.dtype), transformer(self.dtype, "filter"), w.reshape(-1), self.transposed, self.strips,
            self._sizes, taps, filters, self.filter_point,
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

    def _run(self, x, filters, transformed, bias, y, finish, channel):
        lanes, turning = simd.lanes_of(self.dtype), turner(self.dtype)
        image, filter_address, result = (transformer(self.dtype, name) for name in ("image", "filter", "result"))
        padded_columns = self.tile_columns * TILE + TAPS - 1
        seen = thread_scratch("winograd pixels", EDGE * padded_columns * lanes, self.dtype)
        images = scratch("winograd images", POINTS * self.image_point, self.dtype)
        filters_size, results_size = 0 if transformed else POINTS * self.filter_point, POINTS * self.result_point
        written_size = TILE * TILE * self.tile_columns * self.strip
        parts = filters_size, results_size, written_size, self._taps_size
        own = thread_scratch("winograd", sum(parts) + self.strip, self.dtype)
        places = np.array([0, *parts]).cumsum()
        tiling = self.tile_rows, self.tile_columns, self.pitch
        panels = self.panels.with_kernels(self.dtype, self.vectors, form="rows")
        filter_bias = x.reshape(-1)[:0] if bias is None else bias
        finishing = arguments_of(finish, self.dtype)
        for first in range(0, self.all_rows, self.group_blocks * self.block_rows):
            last = min(first + self.group_blocks * self.block_rows, self.all_rows)
            transform_tiles(
                turning, image, x, first, last, EDGE, self.pad, lanes, tiling, images, self.image_point, seen
            )
            _multiply(
                turning, filter_address, result, images, filters, transformed, filter_bias, y, channel, (first, last),
                (self.block_rows, self.parts, self.strips), self._sizes, self.transposed, tiling,
                (self.image_point, self.filter_point, self.result_point), panels, self.tile_places, places,
                own, finishing,
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
    turner, filter_address, result_address, images, filters, transformed, bias, y, first_channel, tile_row_range, cuts,
    sizes, transposed, tiling, points, panels, tile_places, places, own, finish,
):  # fmt: skip
    """Multiply transformed images and filters.

    filters: as `_transform_all_filters` leaves them, or if not `transformed` as they are; then each job transforms its
    part for itself, which stays in a near cache. first_channel: the one of y that gets the first result. cuts: (tile
    rows of a block, parts that the blocks are dealt to, strips of a group's rows). sizes: (groups, depth, rows, lanes,
    vectors of a strip). tiling, points: as above; distances of two points of transformed images, filters and results.
    places, own: where a thread's filters, results, pixels, taps and bias lie in its `thread_scratch`.
    """
    first, last = tile_row_range
    block_rows, parts, strips = cuts
    groups, depth, rows, lanes, vectors = sizes
    tile_columns, pitch = tiling[1:]
    image_point, filter_point, result_point = points
    blocks = (last - first + block_rows - 1) // block_rows
    strip, one = vectors * lanes, y.dtype.type(1)
    for job in numba.prange(groups * strips * parts):
        part, group, row = job % parts, job // (parts * strips), job // parts % strips * strip
        memory, start = own[0], numba.get_thread_id() * own[1]
        place, results, biases = start, start + places[1], start + places[4]
        for m in range(strip):
            known = bias.size > 0 and row + m < rows
            memory[biases + m] = bias[group * rows + row + m] if known else 0
        if transformed:
            place = job // parts * POINTS * filter_point
        else:
            _transform_filters(
                turner, filter_address, filters, transposed, group, row, (0, depth), sizes, memory, start + places[3],
                memory, place, filter_point,
            )  # fmt: skip
        for block in range(part * blocks // parts, (part + 1) * blocks // parts):
            for point in range(POINTS):
                image = point * image_point + block * block_rows * tile_columns * pitch + group * depth
                for first_k in range(0, depth, K_BLOCK):
                    steps = min(K_BLOCK, depth - first_k)
                    here = place + point * filter_point + first_k * strip
                    b = simd.at(filters, here) if transformed else simd.at(memory, here)
                    for panel in range(panels[0]):
                        tile = panel_start(panels, panel)
                        a = simd.at(images, image + tile * pitch + first_k)
                        c = simd.at(memory, results + point * result_point + tile * strip)
                        multiply_tile(
                            panel_kernel(panels, panel),
                            (1, steps, a, simd.at(tile_places, 0), simd.at(tile_places, 0), b, strip),
                            (c, strip, c, one, strip, ADD if first_k > 0 else 0),
                        )
            for i in range(min(block_rows, last - first - block * block_rows)):
                _write_tiles(
                    turner, result_address, memory, results + i * tile_columns * strip, result_point,
                    start + places[2], biases, sizes, tiling, first + block * block_rows + i,
                    group * rows + row, min(strip, rows - row), y, first_channel, finish,
                )  # fmt: skip


@parallel_kernel
def _transform_all_filters(turner, address, w, transposed, strips, sizes, taps, filters, filter_point):
    """Transform filters to [group][strip][point][k][row of the strip], points `filter_point` apart.

    taps: `thread_scratch` for `_transform_filters`.
    """
    groups, depth, _, lanes, vectors = sizes
    blocks = (depth + lanes - 1) // lanes
    for job in numba.prange(groups * strips * blocks):
        first, part = job % blocks * lanes, job // blocks
        _transform_filters(
            turner, address, w, transposed, part // strips, part % strips * vectors * lanes,
            (first, min(first + lanes, depth)), sizes, taps[0], numba.get_thread_id() * taps[1], filters,
            part * POINTS * filter_point, filter_point,
        )  # fmt: skip


@kernel
def _transform_filters(
    turner, address, w, transposed, group, row, k_range, sizes, memory, taps, filters, place, filter_point
):
    """Transform a strip of filters, from `row` of a group on and for k in the range (first, end), to
    [point][k][row of the strip], from element `place` of `filters` on.

    memory, taps: room for the filters of one vector of rows and as many k, [k][tap][row], and one square.
    """
    _, depth, rows, lanes, vectors = sizes
    size, strip = TAPS * TAPS, vectors * lanes
    # The transposed convolution sees the filters from behind.
    last, step = ((size - 1) * lanes, -lanes) if transposed else (0, lanes)
    for first in range(k_range[0], k_range[1], lanes):
        count = min(lanes, k_range[1] - first)
        for v in range(vectors):
            m = row + v * lanes
            turn_filters(turner, lanes, w, transposed, (depth, rows, size), group, m, first, count, memory, taps)
            out = simd.at(filters, place + first * strip + v * lanes)
            transform(
                address,
                (count, simd.at(memory, taps + last), size * lanes, TAPS * step, step),
                (out, strip, EDGE * filter_point, filter_point, out),
            )


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
