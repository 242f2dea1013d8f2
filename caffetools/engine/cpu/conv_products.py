"""The forward product and the data gradient of a convolution with neighbouring pixels as lanes.

The data gradient of a convolution with stride s is s x s convolutions of dy with stride 1, one for each phase
of dx, with the taps of that phase.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import numpy as np

from caffetools.engine.cpu import conv_tiles, simd
from caffetools.engine.cpu.conv_geometry import Geometry
from caffetools.engine.cpu.conv_image import Axis, ImageLayout, PixelTable
from caffetools.engine.cpu.conv_packed import PackedProduct
from caffetools.engine.cpu.finish import Finish, arguments_of
from caffetools.engine.cpu.panels import Panels
from caffetools.engine.cpu.tiles import BIAS, LONGEST_SPAN
from caffetools.engine.cpu.workspace import scratch, thread_scratch

#: Padded images that are made before they are used: as much as stays in an outer cache.
GROUP_BYTES = 4 << 20
#: Jobs that a call is cut into where its size allows; enough to keep many threads evenly busy.
JOBS = 64
#: How much longer products take than multiplications in registers, and how many multiplications it costs to copy
#: a pixel, with its neighbours or, where there is a stride, alone.
SLOWER, COPY_COST, PHASE_COST = 1.15, 16, 64
#: Planes are walked side by side, which takes so many multiplications a pixel in planes of at most NEAR pixels and in
#: others.
NEAR, NEAR_COST, FAR_COST = 1024, 8, 32
#: Tiles of pixels in one job at most: more would push the job's part of y out of the cache.
TILE_BLOCK = 8


class ForwardProduct(PackedProduct):
    """y from x."""

    def __init__(self, geometry: Geometry):
        self.dtype, self.layout = geometry.dtype, source_layout(geometry)
        channels, depth = geometry.group_channels, geometry.group_channels * geometry.taps
        self.product = TapProduct(
            geometry, self.layout, geometry.y_shape[2:], geometry.group_outputs,
            self.layout.offsets(channels), channels * self.layout.channel_step, np.arange(depth), depth,
        )  # fmt: skip
        self.cost = self.product.cost + copy_cost(self.layout)
        self.packed_size = self.product.packed_size

    def pack(self, w: np.ndarray, filters: np.ndarray) -> None:
        """Write the filters to `filters` as `run` wants them."""
        self.product.pack(w, filters)

    def run_packed(
        self,
        x: np.ndarray,
        filters: np.ndarray,
        bias: np.ndarray | None,
        y: np.ndarray,
        finish: Finish | None = None,
        channel: int = 0,
    ) -> None:
        """Compute y from x by packed filters."""
        product = self.product
        flat = y.reshape(-1)
        for first, count, image, place in image_groups(x, self.layout):
            target = flat, (first * y.shape[1] + channel) * product.plane, y.shape[1] * product.plane, product.plane
            product.run(filters, image, place, count, bias, target, finish)


class BackwardProduct(PackedProduct):
    """dx from dy.

    phases: a product for each phase of dx, None where no tap gets there. starts: where each phase begins in a
    channel.
    """

    def __init__(self, geometry: Geometry):
        self.dtype, self.geometry = geometry.dtype, geometry
        axes, taps = zip(*(transposed_axis(geometry, i) for i in range(2)), strict=True)
        self.layout = ImageLayout(geometry.w_shape[0], *axes)
        self.phases, starts = [], [0]
        for row_phase, row_taps in enumerate(taps[0]):
            for column_phase, column_taps in enumerate(taps[1]):
                shape = [
                    max(0, -(-(geometry.x_shape[2 + i] - phase) // geometry.stride[i]))
                    for i, phase in enumerate((row_phase, column_phase))
                ]
                starts.append(starts[-1] + shape[0] * shape[1])
                self.phases.append(self._phase(shape, row_taps, column_taps))
        self.starts = np.array(starts, np.int64)
        self.packed_size = sum(product.packed_size for product in self.phases if product is not None)
        self.cost = sum(product.cost for product in self.phases if product is not None) + copy_cost(self.layout)
        if len(self.phases) > 1:
            self.cost += PHASE_COST * geometry.x_shape[1] * geometry.x_plane

    def _phase(self, shape, row_taps, column_taps):
        geometry, layout = self.geometry, self.layout
        if not row_taps or not column_taps or 0 in shape:
            return None
        places = np.array([row * layout.pitch + column for _, row in row_taps for _, column in column_taps])
        taps = np.array([a * geometry.w_shape[3] + b for a, _ in row_taps for b, _ in column_taps])
        outputs = np.arange(geometry.group_outputs)[:, None]
        depth_offsets = outputs * geometry.group_channels * geometry.taps + taps
        offsets = outputs * layout.channel_step + places
        return TapProduct(
            geometry, layout, shape, geometry.group_channels, offsets.reshape(-1),
            geometry.group_outputs * layout.channel_step, depth_offsets.reshape(-1), geometry.taps,
        )  # fmt: skip

    def pack(self, w: np.ndarray, filters: np.ndarray) -> None:
        """Write the filters of one phase after the other."""
        start = 0
        for product in self.phases:
            if product is not None:
                product.pack(w, filters[start:])
                start += product.packed_size

    def run_packed(
        self,
        dy: np.ndarray,
        filters: np.ndarray,
        bias: np.ndarray | None,
        dx: np.ndarray,
        finish: Finish | None = None,
        channel: int = 0,
    ) -> None:
        """Compute dx from dy by packed filters."""
        channels, plane = self.geometry.x_shape[1], int(self.starts[-1])
        interleaved = len(self.phases) > 1
        for first, count, image, place in image_groups(dy, self.layout):
            target, start = dx.reshape(-1), (first * dx.shape[1] + channel) * plane
            image_step = dx.shape[1] * plane
            if interleaved:
                target, start = scratch("conv phases", count * channels * plane, dy.dtype), 0
                image_step = channels * plane
            place_of_filters = 0
            for product, begin, end in zip(self.phases, self.starts[:-1], self.starts[1:], strict=True):
                if product is None:
                    target[: count * channels * plane].reshape(-1, plane)[:, begin:end] = 0
                else:
                    packed = filters[place_of_filters:]
                    product.run(packed, image, place, count, bias, (target, start + begin, image_step, plane))
                    place_of_filters += product.packed_size
            if interleaved:
                stride = self.geometry.stride
                conv_tiles.interleave_phases(target, self.starts, *stride, dx, (first, count), (channel, channels))


def transposed_axis(geometry: Geometry, i: int) -> tuple[Axis, list[list[tuple[int, int]]]]:
    """Return how dx sees axis i of dy: the axis, and for each phase of dx its (tap, shift) pairs.

    Pixel j s + phase of dx gets output j + shift - pad by way of a tap whenever the division comes out even.
    """
    s, p, d = geometry.stride[i], geometry.pad[i], geometry.dilation[i]
    size, filter_size, out = geometry.x_shape[2 + i], geometry.w_shape[2 + i], geometry.y_shape[2 + i]
    taps = [
        [(tap, (phase + p - tap * d) // s) for tap in range(filter_size) if (phase + p - tap * d) % s == 0]
        for phase in range(s)
    ]
    lowest = min(shift for phase in taps for _, shift in phase)
    taps = [[(tap, shift - lowest) for tap, shift in phase] for phase in taps]
    shifts = tuple(shift for phase in taps for _, shift in phase)
    return Axis(out, 1, -lowest, shifts, -(-size // s)), taps


def source_layout(geometry: Geometry) -> ImageLayout:
    """Return how the filters see x."""
    return ImageLayout(geometry.x_shape[1], *source_axes(geometry))


def source_axes(geometry: Geometry) -> list[Axis]:
    """Return how the filters see the rows and columns of x."""
    axes = []
    for i in range(2):
        shifts = tuple(geometry.dilation[i] * tap for tap in range(geometry.w_shape[2 + i]))
        size, out = geometry.x_shape[2 + i], geometry.y_shape[2 + i]
        axes.append(Axis(size, geometry.stride[i], geometry.pad[i], shifts, out))
    return axes


def copy_cost(layout: ImageLayout) -> float:
    """Return the multiplications that take as long as one image takes to be laid out, or to be read where it lies."""
    if layout.in_place:
        return layout.image_step * (NEAR_COST if layout.channel_step <= NEAR else FAR_COST)
    return layout.image_step * (COPY_COST if layout.columns.stride == 1 else PHASE_COST)


def group_size(images: int, layout: ImageLayout, dtype) -> int:
    """Return how many images are laid out together: all, if read in place, or what the cache holds."""
    if layout.in_place:
        return images
    return max(1, min(images, GROUP_BYTES // (layout.image_step * dtype.itemsize)))


def image_groups(x: np.ndarray, layout: ImageLayout) -> Iterator[tuple[int, int, np.ndarray, int]]:
    """Yield (first, count, flat buffer, place of the first image) for images laid out together."""
    images = x.shape[0]
    if layout.in_place:
        yield 0, images, x.reshape(-1), 0
        return
    step = group_size(images, layout, x.dtype)
    buffer = scratch("conv image", step * layout.image_step + layout.slack, x.dtype)
    for first in range(0, images, step):
        count = min(step, images - first)
        layout.copy(x, first, count, buffer)
        yield first, count, buffer, 0


class TapProduct:
    """Packed filters times the pixels of images: `rows` rows in each group.

    layout: where the pixels lie. plane_shape: the outputs. taps: where each tap k looks, in a group's
    channels of an image, which lie `group_step` apart. depth_offsets, row_step: where w[m, k] lies in a
    group's part of the filters.
    """

    def __init__(
        self, geometry: Geometry, layout: ImageLayout, plane_shape, rows: int, taps: np.ndarray,
        group_step: int, depth_offsets: np.ndarray, row_step: int,
    ):  # fmt: skip
        self.layout, self.rows, self.taps, self.group_step = layout, rows, taps, group_step
        self.depth_offsets, self.row_step = depth_offsets, row_step
        self.groups, self.dtype = geometry.group, geometry.dtype
        self.channels, self.plane = rows * self.groups, plane_shape[0] * plane_shape[1]
        #: Elements of the packed filters.
        self.packed_size = self.channels * len(taps)
        lanes = simd.lanes_of(self.dtype)
        self.vectors = 2 if self.plane > lanes else 1
        table = PixelTable(*plane_shape, layout.pitch, lanes, self.vectors)
        self.direct = table.spans <= LONGEST_SPAN
        self.cut = Panels.cut(rows)
        if self.direct:
            self.pixels, self.gap, self.spans = table.entries, table.gap, table.spans
            computed = len(self.pixels) * lanes
        else:
            self.vectors = 2
            rows_of_plane, columns_of_plane = np.indices(plane_shape)
            self.addresses = (rows_of_plane * layout.pitch + columns_of_plane).reshape(-1)
            computed = self.plane
        self.tile_width = self.vectors * lanes
        self._tilings: dict[int, tuple[int, int, int, int]] = {}
        #: Multiplications for one image, those for nothing included.
        self.cost = SLOWER * self.channels * computed * len(taps)
        self.cost += self.channels * self.plane * (NEAR_COST if self.plane <= NEAR else FAR_COST)

    @cached_property
    def panels(self) -> tuple[int, int, int, int, int]:
        """How the rows are cut, and the micro-kernels, see `Panels.with_kernels`."""
        if self.direct:
            return self.cut.with_kernels(self.dtype, self.vectors, form="table", spans=self.spans)
        return self.cut.with_kernels(self.dtype, self.vectors)

    def pack(self, w: np.ndarray, filters: np.ndarray) -> None:
        """Cut the filters into panels."""
        conv_tiles.pack_filters(
            w.reshape(-1), self.row_step, self.depth_offsets, self.rows, self.groups, self.panels, filters
        )

    def run(
        self,
        packed,
        image,
        image_place: int,
        count: int,
        bias,
        target: tuple[np.ndarray, int, int, int],
        finish: Finish | None = None,
    ) -> None:
        """Convolve `count` images.

        target: the flat y, where the first plane begins, and the distance of two images and of two planes.
        """
        filters = packed, len(self.taps), self.rows
        images = image, image_place, self.layout.image_step, self.group_step, count
        result = (packed, 0) if bias is None else (bias, BIAS)
        finishing = arguments_of(finish, self.dtype)
        if self.direct:
            tiling = self._tilings.get(count)
            if tiling is None:
                tiling = self._tilings[count] = self.tile_width, self.vectors, *self._blocks(count)
            conv_tiles.multiply_direct(
                filters, self.groups, self.panels, tiling, images, self.taps, self.pixels, self.gap, target,
                self.plane, result, finishing,
            )  # fmt: skip
        else:
            gathered = thread_scratch("conv gathered", conv_tiles.K_BLOCK * self.tile_width, self.dtype)
            results = thread_scratch("conv results", self.rows * self.tile_width, self.dtype)
            conv_tiles.multiply_gathered(
                filters, self.groups, self.panels, self.tile_width, images, self.taps, self.addresses,
                gathered, results, target, result, finishing,
            )  # fmt: skip

    def _blocks(self, count):
        """Return tiles and panels of one job: few enough that all threads get work."""
        tiles = len(self.pixels) // self.vectors
        tile_block = max(1, min(TILE_BLOCK, count * self.groups * tiles // JOBS))
        jobs = count * self.groups * -(-tiles // tile_block)
        return tile_block, max(1, min(self.panels[0], self.panels[0] * jobs // JOBS))
