"""Depthwise convolution: each channel has one filter of its own, and there is no matrix product to speak of.

A job takes one plane at a time: it pads the plane in a buffer of its thread, sums the taps over the padded
plane as one long row, the few pixels between two rows included, and copies what belongs to y.
"""

from __future__ import annotations

import numba
import numpy as np

from caffetools.engine.cpu import simd
from caffetools.engine.cpu.conv_geometry import Geometry
from caffetools.engine.cpu.conv_image import ImageLayout, copy_plane
from caffetools.engine.cpu.conv_products import source_axes, transposed_axis
from caffetools.engine.cpu.jit import parallel_kernel
from caffetools.engine.cpu.panels import Panels, panel_height, panel_kernel, panel_start
from caffetools.engine.cpu.tiles import ADD, BIAS, micro_kernel, multiply_tile
from caffetools.engine.cpu.turn import move_block, mover
from caffetools.engine.cpu.workspace import thread_scratch

#: Vectors of pixels that are summed at a time, and filter taps whose gradients are.
VECTORS, MOST_TAPS = 6, 12


def is_depthwise(geometry: Geometry) -> bool:
    """Say whether each channel has exactly one filter."""
    return geometry.group > 1 and geometry.group_channels == geometry.group_outputs == 1


class DepthwiseProduct:
    """y from x, or dx from dy if `transposed`; x and y stand for the input and the output of either below."""

    def __init__(self, geometry: Geometry, transposed: bool):
        if transposed:
            axes, taps = zip(*(transposed_axis(geometry, i) for i in range(2)), strict=True)
            self.strides, sizes = geometry.stride, geometry.x_shape[2:]
        else:
            axes = source_axes(geometry)
            self.strides, sizes = (1, 1), geometry.y_shape[2:]
        layout = ImageLayout(1, *axes, in_place=False)
        self.axes, self.pitch = layout.axes, layout.pitch
        if not transposed:
            taps = [[[(tap, 0) for tap in range(size)]] for size in geometry.w_shape[2:]]
        offsets, indices, phases = [], [], []
        for a, row_taps in enumerate(taps[0]):
            for b, column_taps in enumerate(taps[1]):
                shape = [max(0, -(-(sizes[i] - phase) // self.strides[i])) for i, phase in enumerate((a, b))]
                phases.append((a, b, *shape, len(offsets), len(row_taps) * len(column_taps)))
                for row_tap, row in row_taps:
                    for column_tap, column in column_taps:
                        index = row_tap * geometry.w_shape[3] + column_tap
                        indices.append(index)
                        offsets.append(row * self.pitch + column if transposed else layout.taps[index])
        self.taps, self.indices = np.array(offsets, np.int64), np.array(indices, np.int64)
        self.phases = np.array(phases, np.int64)
        lanes = simd.lanes_of(geometry.dtype)
        self.width = VECTORS * lanes
        self.pixels = np.array([(v * lanes, lanes) for v in range(VECTORS)], np.int64)
        # Sums are made for whole tiles, so both buffers go on for one beyond the last pixel.
        self.image_size = layout.image_step + self.width
        self.sums_size = max(rows * self.pitch for _, _, rows, _, _, _ in phases) + self.width
        self.filter_size = geometry.taps

    def run(self, x: np.ndarray, w: np.ndarray, bias: np.ndarray | None, y: np.ndarray) -> None:
        """Compute y from x; both are (n, channels, rows, columns)."""
        images = thread_scratch("conv plane", self.image_size, x.dtype)
        sums = thread_scratch("conv sums", self.filter_size + self.sums_size, x.dtype)
        kernel = micro_kernel(x.dtype, 1, VECTORS, form="table")
        filters = w.reshape(-1)
        result = (filters, 0) if bias is None else (bias, BIAS)
        tables = self.taps, self.indices, self.phases, self.pixels
        sizes = self.pitch, self.width, self.filter_size
        copier = mover(x.dtype), simd.lanes_of(x.dtype)
        _sum_planes(
            x, filters, result, y, self.axes, self.strides, tables, sizes, kernel, copier, images, sums
        )


class DepthwiseFilterGradient:
    """dw and db from x and dy."""

    def __init__(self, geometry: Geometry):
        layout = ImageLayout(1, *source_axes(geometry), in_place=False)
        self.axes, self.pitch, self.taps, self.size = (
            layout.axes,
            layout.pitch,
            layout.taps,
            layout.image_step,
        )
        self.panels = Panels.cut_at_most(geometry.taps, MOST_TAPS)

    def run(self, x: np.ndarray, dy: np.ndarray, dw: np.ndarray, db: np.ndarray | None) -> None:
        images = thread_scratch("conv plane", self.size, x.dtype)
        tall = short = micro_kernel(x.dtype, 1, self.panels.tall, form="dots")
        if self.panels.tall_count < self.panels.count:
            short = micro_kernel(x.dtype, 1, self.panels.tall - 1, form="dots")
        panels = self.panels.count, self.panels.tall, self.panels.tall_count, tall, short
        flat = dw.reshape(-1)
        copier = mover(x.dtype), simd.lanes_of(x.dtype)
        gradients = flat, flat[:0] if db is None else db
        _filter_gradients(x, dy, *gradients, self.axes, self.taps, self.pitch, panels, copier, images)


@parallel_kernel
def _sum_planes(x, w, result, y, axes, strides, tables, sizes, kernel, copier, images, sums):
    """Convolve plane by plane.

    axes: `ImageLayout.axes`. tables: the taps' offsets and their indices in a filter, phase by phase of y;
    the phases, (first row, first column, rows, columns, first tap, taps) each; `PixelTable.entries` of a tile.
    sizes: (pixels between two rows of the padded plane, pixels of a tile, taps of a filter).
    """
    taps, indices, phases, pixels = tables
    pitch, width, filter_size = sizes
    bias, flags = result
    row_axis, column_axis, row_phases, column_phases = axes
    channels, plane = x.shape[1], x.shape[2] * x.shape[3]
    y_plane, y_width = y.shape[2] * y.shape[3], y.shape[3]
    flat = y.reshape(-1)
    for job in numba.prange(x.shape[0] * channels):
        channel = job % channels
        image, filters = numba.get_thread_id() * images[1], numba.get_thread_id() * sums[1]
        first_sum = filters + filter_size
        source = job * plane
        copy_plane(x, source, row_axis, column_axis, row_phases, column_phases, copier, images[0], image)
        for phase in range(phases.shape[0]):
            top, left, rows, columns, first_tap, count = phases[phase]
            for k in range(count):
                sums[0][filters + k] = w[channel * filter_size + indices[first_tap + k]]
            for pixel in range(0, (rows - 1) * pitch + columns, width):
                seen = simd.at(images[0], image + pixel)
                multiply_tile(
                    kernel,
                    (
                        count,
                        simd.at(sums[0], filters),
                        1,
                        seen,
                        simd.at(taps, first_tap),
                        simd.at(pixels, 0),
                        0,
                    ),
                    (
                        simd.at(sums[0], first_sum + pixel),
                        0,
                        simd.at(bias, channel),
                        x.dtype.type(1),
                        width,
                        flags,
                    ),
                )
            target, row_step = job * y_plane + top * y_width + left, strides[0] * y_width
            if strides[1] == 1:
                mover, lanes = copier
                move_block(mover, lanes, sums[0], first_sum, pitch, y, target, row_step, rows, columns)
            else:
                for i in range(rows):
                    here, there = target + i * row_step, first_sum + i * pitch
                    for j in range(np.uint64(columns)):
                        flat[np.uint64(here) + j * np.uint64(strides[1])] = sums[0][np.uint64(there) + j]


@parallel_kernel
def _filter_gradients(x, dy, dw, db, axes, taps, pitch, panels, copier, images):
    """Sum channel by channel over all images; db may be empty."""
    channels, rows, columns = dy.shape[1:]
    row_axis, column_axis, row_phases, column_phases = axes
    for channel in numba.prange(channels):
        image = numba.get_thread_id() * images[1]
        total = dy.dtype.type(0)
        for n in range(x.shape[0]):
            source = (n * channels + channel) * x.shape[2] * x.shape[3]
            copy_plane(x, source, row_axis, column_axis, row_phases, column_phases, copier, images[0], image)
            plane = (n * channels + channel) * rows * columns
            for panel in range(panels[0]):
                tap = panel_start(panels, panel)
                c = simd.at(dw, channel * taps.size + tap)
                multiply_tile(
                    panel_kernel(panels, panel),
                    (
                        rows,
                        columns,
                        simd.at(dy, plane),
                        0,
                        columns,
                        simd.at(images[0], image),
                        simd.at(taps, tap),
                        pitch,
                    ),
                    (c, 0, c, dy.dtype.type(1), panel_height(panels, panel), ADD),
                )
            if db.size > 0:
                part = dy.dtype.type(0)
                for i in range(rows):
                    for j in range(columns):
                        part += dy[n, channel, i, j]
                total += part
        if db.size > 0:
            db[channel] += total
