"""Convolution with the images of the batch as lanes, for small planes and full batches.

    y[q, m, n] = bias[m] + sum over taps t that reach q, sum_k w[t, k, m] x[pixel(q, t), k, n]

With n innermost no vector ever crosses the edge of a plane, whatever its size, stride or dilation, and taps
that see only padding are left out. The price is to turn x to [pixel][channel][image] and y back.
"""

from __future__ import annotations

import numba
import numpy as np

from caffetools.engine.cpu import simd
from caffetools.engine.cpu.conv_geometry import Geometry
from caffetools.engine.cpu.conv_packed import PackedProduct
from caffetools.engine.cpu.finish import Finish, arguments_of, finish_rows
from caffetools.engine.cpu.jit import parallel_kernel
from caffetools.engine.cpu.panels import Panels, panel_kernel, panel_start
from caffetools.engine.cpu.tiles import BIAS, multiply_tile
from caffetools.engine.cpu.turn import turn, turner
from caffetools.engine.cpu.workspace import scratch

#: Turned images that are made before they are used.
GROUP_BYTES = 4 << 20
#: Turning an element costs as much as this many multiplications, and the shorter sums this share of them.
TURN_COST, LINK_COST = 16, 1.35


class LanesProduct(PackedProduct):
    """Filters times pixels for whole batches: y from x, or dx from dy if `transposed`.

    In the comments x stands for the input and y for the output of either.
    """

    def __init__(self, geometry: Geometry, transposed: bool):
        self.groups, self.taps, self.dtype = geometry.group, geometry.taps, geometry.dtype
        outputs, channels = geometry.group_outputs, geometry.group_channels
        targets, taps, sources = geometry.links()
        # Where w[t, k, m] lies in a group's part of the filters: t + m * row_step + k * depth_step.
        self.rows, self.depth, self.row_step, self.depth_step = (
            outputs,
            channels,
            channels * self.taps,
            self.taps,
        )
        self.x_plane, self.y_plane = geometry.x_plane, geometry.y_plane
        if transposed:
            targets, sources = sources, targets
            self.rows, self.depth, self.row_step, self.depth_step = (
                channels,
                outputs,
                self.taps,
                channels * self.taps,
            )
            self.x_plane, self.y_plane = self.y_plane, self.x_plane

        self.lanes = simd.lanes_of(self.dtype)
        self.turned = self.groups * (self.depth * self.x_plane + self.rows * self.y_plane)
        pair = 2 * self.lanes
        most = max(1, GROUP_BYTES // (self.turned * self.dtype.itemsize * pair)) * pair
        self.images = min(most, geometry.images)
        self.padded = -(-self.images // self.lanes) * self.lanes
        order = np.argsort(targets, kind="stable")
        self.starts = np.searchsorted(targets[order], np.arange(self.y_plane + 1))
        self.filter_steps = taps[order] * (self.depth * self.rows)
        self.pixel_steps = sources[order] * (self.groups * self.depth * self.padded)
        self.packed_size = self.groups * self.taps * self.depth * self.rows

    @property
    def cost(self) -> float:
        """Multiplications for one image, those for nothing and the time for turning included."""
        products = self.groups * len(self.pixel_steps) * self.depth * self.rows
        return LINK_COST * products * self.padded / self.images + TURN_COST * self.turned

    def pack(self, w: np.ndarray, filters: np.ndarray) -> None:
        """Write the filters to `filters` as `run` wants them."""
        sizes = self.taps, self.depth, self.rows
        _sort_filters(w.reshape(-1), self.groups, sizes, (self.row_step, self.depth_step), filters)

    def run_packed(
        self,
        x: np.ndarray,
        filters: np.ndarray,
        bias: np.ndarray | None,
        y: np.ndarray,
        finish: Finish | None = None,
        channel: int = 0,
    ) -> None:
        """Compute y (n, channels, ...) from x (n, channels, ...) by packed filters."""
        vectors = 2 if self.padded > self.lanes else 1
        panels = Panels.cut(self.rows).with_kernels(self.dtype, vectors, form="blocks")
        turning = turner(self.dtype)
        sizes = self.taps, self.depth, self.rows
        # The last vector of a tile may lie beyond the last image.
        x_size = self.x_plane * self.groups * self.depth * self.padded + self.lanes
        turned_x = scratch("conv lanes in", x_size, self.dtype)
        turned_y = scratch("conv lanes out", self.y_plane * self.groups * self.rows * self.padded, self.dtype)
        links = self.starts, self.filter_steps, self.pixel_steps
        result = (filters, 0) if bias is None else (bias, BIAS)
        batch = self.lanes, self.padded, vectors * self.lanes
        finishing = arguments_of(finish, self.dtype)
        for first in range(0, x.shape[0], self.images):
            part = first, min(self.images, x.shape[0] - first)
            _turn_in(turning, x, part, self.x_plane, batch, turned_x)
            _multiply(filters, turned_x, links, self.groups, sizes, batch, panels, result, turned_y)
            _turn_out(turning, turned_y, part, self.y_plane, batch, y, (channel, self.groups * self.rows), finishing)


@parallel_kernel
def _sort_filters(w, groups, sizes, steps, filters):
    """Copy the filters to [group][tap][k][m]."""
    taps, depth, rows = sizes
    row_step, depth_step = steps
    for job in numba.prange(groups * taps):
        group, tap = job // taps, job % taps
        source, place = group * taps * depth * rows + tap, job * depth * rows
        for k in range(depth):
            for m in range(rows):
                filters[place + k * rows + m] = w[source + m * row_step + k * depth_step]


@parallel_kernel
def _turn_in(turner, x, part, plane, batch, turned):
    """Copy images to [pixel][channel][image]; images that fill up the last vector are zero."""
    channels = x.shape[1]
    first, count = part
    lanes, padded, _ = batch
    chunk = 8 * lanes
    chunks = (plane + chunk - 1) // chunk
    for job in numba.prange(padded // lanes * chunks):
        n, pixel = job // chunks * lanes, job % chunks * chunk
        for channel in range(channels):
            source = simd.at(x, ((first + n) * channels + channel) * plane + pixel)
            target = simd.at(turned, (pixel * channels + channel) * padded + n)
            turn(
                turner,
                (source, channels * plane, min(lanes, count - n), min(chunk, plane - pixel)),
                (target, channels * padded, lanes),
            )


@parallel_kernel
def _turn_out(turner, turned, part, plane, batch, y, channel_range, finish):
    """Copy [pixel][channel][image] back to the channels (first, number) of images, and finish them."""
    first_channel, channels = channel_range
    image = y.shape[1] * plane
    first, count = part
    lanes, padded, _ = batch
    for job in numba.prange((plane + lanes - 1) // lanes):
        pixel = job * lanes
        width = min(lanes, plane - pixel)
        for channel in range(channels):
            source = simd.at(turned, (pixel * channels + channel) * padded)
            target = simd.at(y, first * image + (first_channel + channel) * plane + pixel)
            turn(turner, (source, channels * padded, width, count), (target, image, width))
        for n in range(first, first + count):
            finish_rows(finish, 0, y, n * image + first_channel * plane + pixel, plane, channels, width)


@parallel_kernel
def _multiply(filters, x, links, groups, sizes, batch, panels, result, y):
    """links: where each output pixel's links begin, and of each the offset of its filters and input pixel."""
    starts, filter_steps, pixel_steps = links
    taps, depth, rows = sizes
    _, padded, tile_width = batch
    bias, flags = result
    for job in numba.prange((starts.size - 1) * groups):
        pixel, group = job // groups, job % groups
        first, count = starts[pixel], starts[pixel + 1] - starts[pixel]
        for panel in range(panels[0]):
            start = panel_start(panels, panel)
            a = simd.at(filters, group * taps * depth * rows + start)
            for n in range(0, padded, tile_width):
                b = simd.at(x, group * depth * padded + n)
                c = simd.at(y, ((pixel * groups + group) * rows + start) * padded + n)
                a_steps, b_steps = simd.at(filter_steps, first), simd.at(pixel_steps, first)
                multiply_tile(
                    panel_kernel(panels, panel),
                    (count, depth, a, a_steps, rows, b, b_steps, padded),
                    (c, padded, simd.at(bias, group * rows + start), y.dtype.type(1),
                     min(tile_width, padded - n), flags),
                )  # fmt: skip
