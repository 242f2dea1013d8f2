"""Windows as columns, over any number of spatial axes, and convolution by way of them.

Row (channel, tap) of the columns of an item holds the elements under a tap for all windows, zero outside x.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
from numba import cuda

from caffetools.engine.gpu.device import current
from caffetools.engine.gpu.gemm import gemm
from caffetools.engine.gpu.launch import cuda_kernel, launch
from caffetools.engine.gpu.memory import to_device

#: Most elements of the columns that are made at once, unless an item has more.
MOST = 1 << 24


class Unfolding:
    """The windows of planes of given sizes.

    channels: planes of an item. sizes, kernel, stride, pad, dilation: a number for each spatial axis.
    """

    def __init__(self, channels: int, sizes: Sequence[int], kernel, stride, pad, dilation):
        axes = list(zip(sizes, kernel, stride, pad, dilation, strict=True))
        self.windows = [(size + 2 * p - d * (k - 1) - 1) // s + 1 for size, k, s, p, d in axes]
        self.plane, self.taps, self.count = prod(sizes), prod(kernel), prod(self.windows)
        self.item, self.columns = channels * self.plane, channels * self.taps * self.count
        table = [sizes, kernel, stride, pad, dilation, self.windows]
        self._axes = to_device(current(), np.array(table, np.int64).reshape(6, -1))
        self._numbers = len(axes), self.plane, self.taps, self.count

    def unfold(self, x, first: int, items: int, columns) -> None:
        """Write the columns of `items` items of x, from element `first` on."""
        count = items * self.columns
        launch(im2col, count, x, first, count, self._axes, *self._numbers, columns)

    def fold(self, columns, dx, first: int, items: int) -> None:
        """Overwrite `items` items of dx with the sums of what belongs to each element."""
        count = items * self.item
        launch(col2im, count, columns, self._axes, *self._numbers, dx, first, count)


class UnfoldedConvolution:
    """A convolution over any number of axes, by way of columns: as many items at once as the workspace holds."""

    def __init__(self, x_shape, w_shape, stride, pad, dilation, group: int, dtype):
        self.items, channels, *sizes = x_shape
        self.outputs, _, *kernel = w_shape
        self.group, self.dtype = group, np.dtype(dtype)
        self.windows = Unfolding(channels, sizes, kernel, stride, pad, dilation)
        self.rows, self.depth = self.outputs // group, channels // group * self.windows.taps
        self.y_item = self.outputs * self.windows.count
        self.at_once = max(1, min(self.items, MOST // max(self.windows.columns, 1)))
        current().workspace.reserve(self.at_once * self.windows.columns, self.dtype)

    def forward(self, x, w, y) -> None:
        """Compute y."""
        columns = current().workspace.array(self.dtype)
        for first, items in self._slices():
            self.windows.unfold(x, first * self.windows.item, items, columns)
            for i in range(items):
                starts, steps = (0, i * self.windows.columns, (first + i) * self.y_item), self._steps()
                sizes = self.rows, self.windows.count, self.depth
                gemm(False, False, *sizes, 1, w, columns, 0, y, starts=starts, batch=self.group, steps=steps)

    def backward_data(self, dy, w, dx) -> None:
        """Compute dx."""
        columns = current().workspace.array(self.dtype)
        of_w, of_columns, of_y = self._steps()
        for first, items in self._slices():
            for i in range(items):
                starts = 0, (first + i) * self.y_item, i * self.windows.columns
                sizes, steps = (self.depth, self.windows.count, self.rows), (of_w, of_y, of_columns)
                gemm(True, False, *sizes, 1, w, dy, 0, columns, starts=starts, batch=self.group, steps=steps)
            self.windows.fold(columns, dx, first * self.windows.item, items)

    def add_weight_gradient(self, x, dy, dw) -> None:
        """Add the weight gradient to dw, item after item."""
        columns = current().workspace.array(self.dtype)
        of_w, of_columns, of_y = self._steps()
        for first, items in self._slices():
            self.windows.unfold(x, first * self.windows.item, items, columns)
            for i in range(items):
                starts = (first + i) * self.y_item, i * self.windows.columns, 0
                sizes, steps = (self.rows, self.depth, self.windows.count), (of_y, of_columns, of_w)
                gemm(False, True, *sizes, 1, dy, columns, 1, dw, starts=starts, batch=self.group, steps=steps)

    def _slices(self):
        """Return the first item and the number of those that are worked on together."""
        for first in range(0, self.items, self.at_once):
            yield first, min(self.at_once, self.items - first)

    def _steps(self):
        """Return the elements between the groups of w, of the columns and of y."""
        return self.rows * self.depth, self.depth * self.windows.count, self.rows * self.windows.count


@cuda_kernel
def im2col(x, first, total, axes, count_axes, plane, taps, windows, columns):
    """axes: rows of sizes, kernel, stride, pad, dilation and windows."""
    for place in range(cuda.grid(1), total, cuda.gridsize(1)):
        rest, window = place // windows, place % windows
        tap = rest % taps
        at, step, inside = first + rest // taps * plane, 1, True
        # From the last axis to the first.
        for axis in range(count_axes - 1, -1, -1):
            size, kernel, number = axes[axis], axes[count_axes + axis], axes[5 * count_axes + axis]
            u = window % number * axes[2 * count_axes + axis] - axes[3 * count_axes + axis]
            u += tap % kernel * axes[4 * count_axes + axis]
            window, tap = window // number, tap // kernel
            if u < 0 or u >= size:
                inside = False
            at += u * step
            step *= size
        columns[place] = x[at] if inside else x.dtype.type(0)


@cuda_kernel
def col2im(columns, axes, count_axes, plane, taps, windows, dx, first, total):
    """axes: as for `im2col`. The taps are added in their order."""
    for place in range(cuda.grid(1), total, cuda.gridsize(1)):
        sum_of_taps = dx.dtype.type(0)
        for tap in range(taps):
            pixel, rest, window, step, inside = place % plane, tap, 0, 1, True
            for axis in range(count_axes - 1, -1, -1):
                size, kernel, number = axes[axis], axes[count_axes + axis], axes[5 * count_axes + axis]
                stride = axes[2 * count_axes + axis]
                u = pixel % size + axes[3 * count_axes + axis] - rest % kernel * axes[4 * count_axes + axis]
                pixel, rest = pixel // size, rest // kernel
                if u < 0 or u % stride != 0 or u // stride >= number:
                    inside = False
                window += u // stride * step
                step *= number
            if inside:
                sum_of_taps += columns[(place // plane * taps + tap) * windows + window]
        dx[first + place] = sum_of_taps
