"""2-D convolution in NCHW layout: forward, data gradient and filter gradient for every stride, padding, dilation and group.

    y[n, m, i, j] = bias[m] + sum_{c, a, b} w[m, c, a, b] x[n, c, i s - p + a d, j s - p + b d]

All three are matrix products whose second operand is read from the image itself (see `conv_image`, `conv_tiles`,
`conv_weights`). The data gradient of a convolution with stride s is s x s convolutions of dy with stride 1, one for
each phase of dx, with the taps of that phase.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numba
import numpy as np

from caffetools.engine.cpu import conv_tiles, conv_weights, simd
from caffetools.engine.cpu.conv_image import Axis, ImageLayout, PixelTable
from caffetools.engine.cpu.panels import Panels
from caffetools.engine.cpu.workspace import scratch
from caffetools.glog import check

#: Padded images, or turned gradients, that are made before they are used: as much as stays in an outer cache.
GROUP_BYTES = 4 << 20
#: Jobs that a call is cut into where its size allows; enough to keep many threads evenly busy.
JOBS = 64
#: Tiles of pixels in one job at most, so that strips of filters are fetched less often.
TILE_BLOCK = 8
#: Memory for the partial sums of the filter gradient, and the most chunks of images that are summed apart.
PARTIAL_BYTES, MOST_CHUNKS = 2 << 20, 16


class ConvPlan:
    """A convolution of given shapes; holds tables, no data.

    x_shape: (n, c, h, w). w_shape: (m, c / group, kh, kw). stride, pad, dilation: an int or a pair (rows, columns).
    dtype: float32 or float64. All arrays are C-contiguous. The plan serves the transposed convolution as well: its
    forward is `backward_data`, its data gradient is `forward`, and its filter gradient is `backward_weights` with x
    and dy exchanged.
    """

    def __init__(
        self,
        x_shape: Sequence[int],
        w_shape: Sequence[int],
        stride=1,
        pad=0,
        dilation=1,
        group: int = 1,
        dtype=np.float32,
    ):
        self.x_shape, self.w_shape = tuple(x_shape), tuple(w_shape)
        self.stride, self.pad, self.dilation = _pair(stride), _pair(pad), _pair(dilation)
        self.group, self.dtype = group, np.dtype(dtype)
        outputs, group_channels = self.w_shape[:2]
        channels = self.x_shape[1]
        check(
            channels == group * group_channels,
            "channels == group * filter channels",
            f"{self.x_shape} and {self.w_shape}, group {group}",
        )
        check(outputs % group == 0, "num_output % group == 0", f"{outputs} outputs in {group} groups")
        extents = [d * (k - 1) + 1 for d, k in zip(self.dilation, self.w_shape[2:], strict=True)]
        sizes = [
            (size + 2 * p - extent) // s + 1
            for size, p, extent, s in zip(self.x_shape[2:], self.pad, extents, self.stride, strict=True)
        ]
        check(
            min(sizes) > 0,
            "output height and width > 0",
            f"a filter of {extents} does not fit {self.x_shape} with pad {self.pad}",
        )
        self.y_shape = (self.x_shape[0], outputs, *sizes)

    def forward(self, x: np.ndarray, w: np.ndarray, bias: np.ndarray | None, y: np.ndarray) -> None:
        """Compute y from x; bias: (m,) or None."""
        product, layout = self._forward
        product.pack(w)
        flat_y = y.reshape(-1)
        for first, count, image, place in _image_groups(x, layout):
            product.run(
                image, place, count, bias, flat_y, first * product.channels * product.plane, product.plane
            )

    def backward_data(self, dy: np.ndarray, w: np.ndarray, dx: np.ndarray) -> None:
        """Compute dx from dy; dx is overwritten."""
        layout, phases, starts = self._backward_data
        channels = self.x_shape[1]
        for first, count, image, place in _image_groups(dy, layout):
            if len(phases) == 1:
                target, target_place = dx.reshape(-1), first * channels * starts[-1]
            else:
                target, target_place = scratch("conv phases", count * channels * starts[-1], self.dtype), 0
            for product, start, end in zip(phases, starts[:-1], starts[1:], strict=True):
                if product is not None:
                    product.pack(w)
                    product.run(image, place, count, None, target, target_place + start, starts[-1])
                else:
                    target[: count * channels * starts[-1]].reshape(-1, starts[-1])[:, start:end] = 0
            if len(phases) > 1:
                conv_tiles.interleave_phases(target, starts, *self.stride, dx, first, count)

    def backward_weights(self, x: np.ndarray, dy: np.ndarray, dw: np.ndarray, db: np.ndarray | None) -> None:
        """Add the gradients of the filters to dw and, if given, those of the bias to db."""
        self._backward_weights.run(x, dy, dw)
        if db is not None:
            conv_weights.add_bias_gradient(dy, db)

    @cached_property
    def _axes(self):
        """The two axes of x as the filters see them."""
        shapes = zip(
            self.x_shape[2:],
            self.stride,
            self.pad,
            self.dilation,
            self.w_shape[2:],
            self.y_shape[2:],
            strict=True,
        )
        return [Axis(size, s, p, tuple(d * tap for tap in range(k)), out) for size, s, p, d, k, out in shapes]

    @cached_property
    def _forward(self):
        layout = ImageLayout(self.x_shape[1], *self._axes)
        outputs, channels = self.w_shape[0] // self.group, self.w_shape[1]
        depth = channels * self.w_shape[2] * self.w_shape[3]
        product = _TapProduct(
            layout, self.y_shape[2:], outputs, self.group, layout.offsets(channels), channels * layout.channel_step,
            np.arange(depth), depth, self.dtype,
        )  # fmt: skip
        return product, layout

    @cached_property
    def _backward_data(self):
        """The layout of dy, a product for each phase of dx (None: no tap gets there), and where each phase starts."""
        outputs, channels = self.w_shape[0] // self.group, self.w_shape[1]
        axes, taps = zip(*(self._transposed_axis(axis) for axis in range(2)), strict=True)
        layout = ImageLayout(self.w_shape[0], *axes)
        filter_size = self.w_shape[2] * self.w_shape[3]
        phases, starts = [], [0]
        for row_phase, row_taps in enumerate(taps[0]):
            for column_phase, column_taps in enumerate(taps[1]):
                shape = [
                    max(0, -(-(size - phase) // s))
                    for size, phase, s in zip(
                        self.x_shape[2:], (row_phase, column_phase), self.stride, strict=True
                    )
                ]
                starts.append(starts[-1] + shape[0] * shape[1])
                places = [row * layout.pitch + column for _, row in row_taps for _, column in column_taps]
                indices = [a * self.w_shape[3] + b for a, _ in row_taps for b, _ in column_taps]
                if not places or 0 in shape:
                    phases.append(None)
                    continue
                offsets = (np.arange(outputs)[:, None] * layout.channel_step + np.array(places)).reshape(-1)
                depth_offsets = (
                    np.arange(outputs)[:, None] * channels * filter_size + np.array(indices)
                ).reshape(-1)
                phases.append(
                    _TapProduct(
                        layout,
                        shape,
                        channels,
                        self.group,
                        offsets,
                        outputs * layout.channel_step,
                        depth_offsets,
                        filter_size,
                        self.dtype,
                    )
                )
        return layout, phases, np.array(starts, np.int64)

    def _transposed_axis(self, axis):
        """Return how dx sees an axis of dy: the axis, and for each phase of dx its (tap, shift) pairs.

        Pixel i s + phase of dx gets output i + shift - pad by way of a tap whenever the division comes out even.
        """
        s, p, d = self.stride[axis], self.pad[axis], self.dilation[axis]
        taps = [
            [
                (tap, (phase + p - tap * d) // s)
                for tap in range(self.w_shape[2 + axis])
                if (phase + p - tap * d) % s == 0
            ]
            for phase in range(s)
        ]
        lowest = min(shift for phase in taps for _, shift in phase)
        taps = [[(tap, shift - lowest) for tap, shift in phase] for phase in taps]
        shifts = tuple(shift for phase in taps for _, shift in phase)
        return Axis(self.y_shape[2 + axis], 1, -lowest, shifts, -(-self.x_shape[2 + axis] // s)), taps

    @cached_property
    def _backward_weights(self):
        return _FilterGradient(self)


class _TapProduct:
    """Packed filters times the pixels of images: `rows` rows in each of `groups` groups.

    offsets: where each tap k looks. depth_offsets, row_step: where w[m, k] lies in a group's part of the filters.
    """

    def __init__(
        self, layout, plane_shape, rows, groups, offsets, group_step, depth_offsets, row_step, dtype
    ):
        self.layout, self.rows, self.groups, self.dtype = layout, rows, groups, dtype
        self.offsets, self.depth_offsets, self.row_step = offsets, depth_offsets, row_step
        self.image_group_step = group_step
        self.channels, self.plane = rows * groups, plane_shape[0] * plane_shape[1]
        self.panels = Panels.cut(rows, simd.max_rows())
        lanes = simd.lanes_of(dtype)
        self.vectors = 2 if self.plane > lanes else 1
        table = PixelTable(*plane_shape, layout.pitch, lanes, self.vectors)
        self.direct = table.spans <= simd.LONGEST_SPAN
        if self.direct:
            self.pixels, self.gap = table.entries, table.gap
            self.kernels = self.panels.kernels(
                dtype, self.vectors, b="table", spans=table.spans, masked=simd.masked_loads()
            )
        else:
            self.vectors = 2
            rows_of_plane, columns_of_plane = np.indices(plane_shape)
            self.addresses = (rows_of_plane * layout.pitch + columns_of_plane).reshape(-1)
            self.kernels = self.panels.kernels(dtype, self.vectors)
        self.tile_width = self.vectors * lanes

    def pack(self, w):
        """Pack the filters for the calls of `run` that follow."""
        filters = w.reshape(-1)
        self.packed = scratch("conv filters", filters.size, self.dtype)
        conv_tiles.pack_filters(
            filters, self.row_step, filters.size // self.groups, self.depth_offsets, self.rows, self.groups, self.panels.count,
            self.panels.tall, self.panels.tall_count, self.packed,
        )  # fmt: skip

    def run(self, image, image_place, count, bias, y, y_place, channel_step):
        """Convolve `count` images; y_place, channel_step: where the first plane of y begins, and the distance of two planes."""
        panels = self.panels
        flags, bias = (0, self.packed) if bias is None else (simd.BIAS, bias)
        common = (self.packed, self.rows, self.groups, panels.count, panels.tall, panels.tall_count)
        images = (image, image_place, self.layout.image_step, self.image_group_step, count, self.offsets)
        target = (bias, flags, y, y_place, self.channels * channel_step, channel_step)
        if self.direct:
            tile_block, panel_block = self._blocks(count)
            conv_tiles.multiply_direct(
                *common, panel_block, self.kernels, self.tile_width, self.vectors, tile_block, *images, self.pixels, self.gap, *target,
                self.plane,
            )  # fmt: skip
        else:
            threads = numba.config.NUMBA_NUM_THREADS
            buffers = scratch("conv gathered", threads * conv_tiles.K_BLOCK * self.tile_width, self.dtype)
            results = scratch("conv results", threads * self.rows * self.tile_width, self.dtype)
            conv_tiles.multiply_gathered(
                *common, self.kernels, self.tile_width, buffers, results, *images, self.addresses, *target
            )

    def _blocks(self, count):
        """Return tiles and strips of one job: few enough that all threads get work."""
        tiles = len(self.pixels) // self.vectors
        tile_block = max(1, min(TILE_BLOCK, count * self.groups * tiles // JOBS))
        jobs = count * self.groups * -(-tiles // tile_block)
        return tile_block, max(1, min(self.panels.count, self.panels.count * jobs // JOBS))


class _FilterGradient:
    """Tables of the filter gradient of a plan."""

    def __init__(self, plan):
        self.plan = plan
        self.layout = ImageLayout(plan.x_shape[1], *plan._axes)
        self.channels = plan.w_shape[0] // plan.group
        self.offsets = self.layout.offsets(plan.w_shape[1])
        lanes = simd.lanes_of(plan.dtype)
        needed = -(-self.channels // lanes)
        self.vectors = min((2, 3, 1), key=lambda vectors: (-(-needed // vectors) * vectors, abs(vectors - 2)))
        self.tile_width = self.vectors * lanes
        self.blocks = -(-needed // self.vectors)
        self.panels = Panels.cut(len(self.offsets), simd.max_rows(max(2, self.vectors)))
        self.kernels = self.panels.kernels(plan.dtype, self.vectors, a="rows")
        out_rows, out_columns = plan.y_shape[2:]
        turned = plan.group * self.blocks * self.tile_width * out_rows * out_columns * plan.dtype.itemsize
        self.images = max(1, min(plan.x_shape[0], GROUP_BYTES // turned))
        self.row_starts = (
            np.arange(self.images)[:, None] * self.layout.image_step + np.arange(out_rows) * self.layout.pitch
        ).reshape(-1)
        self.partial = plan.group * self.blocks * len(self.offsets) * self.tile_width
        self.chunks = max(
            1, min(self.images, MOST_CHUNKS, PARTIAL_BYTES // (self.partial * plan.dtype.itemsize))
        )
        self.panel_block = max(1, self.panels.count * self.chunks * plan.group * self.blocks // JOBS)

    def run(self, x, dy, dw):
        plan, panels = self.plan, self.panels
        out_rows, out_columns = plan.y_shape[2:]
        images = self.images
        turned = scratch(
            "conv turned",
            plan.group * self.blocks * images * out_rows * out_columns * self.tile_width,
            plan.dtype,
        )
        partial = scratch("conv partial", self.chunks * self.partial, plan.dtype)
        for first, count, image, place in _image_groups(x, self.layout, images):
            conv_weights.turn_outputs(dy, first, count, plan.group, self.blocks, self.tile_width, turned)
            conv_weights.multiply_taps(
                image, place, plan.w_shape[1] * self.layout.channel_step, self.offsets, self.row_starts, out_rows, out_columns, turned,
                count, self.chunks, plan.group, self.blocks, self.tile_width, panels.count, panels.tall, panels.tall_count,
                self.panel_block, self.kernels, 0 if first == 0 else simd.ADD, partial,
            )  # fmt: skip
        conv_weights.add_chunks(
            partial, self.chunks, plan.group, self.blocks, self.tile_width, dw.reshape(dw.shape[0], -1)
        )


def _image_groups(x, layout, most=None):
    """Yield (first, count, flat image buffer, place of the first image) for images that are laid out together.

    most: how many images a group may have; by default as many as the cache holds, or all if they are read in place.
    """
    images = x.shape[0]
    if layout.in_place:
        step = most or max(1, images)
        flat = x.reshape(-1)
        for first in range(0, images, step):
            yield first, min(step, images - first), flat, first * layout.image_step
        return
    step = most or max(1, GROUP_BYTES // (layout.image_step * x.itemsize))
    buffer = scratch("conv image", min(step, images) * layout.image_step + layout.slack, x.dtype)
    for first in range(0, images, step):
        count = min(step, images - first)
        layout.copy(x, first, count, buffer)
        yield first, count, buffer, 0


def _pair(value):
    return (value, value) if isinstance(value, int) else tuple(int(v) for v in value)
