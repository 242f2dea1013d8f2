"""Shapes of a two-dimensional convolution, and the tables by which its products find their elements.

A convolution, its data gradient and its weight gradient are matrix products whose one operand is gathered from planes:
row k = (channel, tap) of it, column (item, i, j). Which element that is, and which weight stands beside it, the table
of taps says; the four numbers of a step k are

    place of the weight | offset of the element | its line and its column, as far as the tap decides them

The data gradient of a convolution with strides falls into stride x stride classes of pixels, each a convolution without
strides by some of the taps; the table of classes says which.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: Numbers of a step in a table of taps, and of a class in a table of classes.
STEP, CLASS = 4, 6


@dataclass(frozen=True)
class Geometry:
    """x (items, channels, height, width), w (outputs, channels / group, kernel), y (items, outputs, down, across).

    stride, pad and dilation have a number for each axis.
    """

    items: int
    channels: int
    height: int
    width: int
    outputs: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    pad: tuple[int, int]
    dilation: tuple[int, int]
    group: int

    @classmethod
    def of(
        cls, x_shape: Sequence[int], w_shape: Sequence[int], stride, pad, dilation, group: int
    ) -> Geometry:
        """Return the geometry of a convolution of planar shapes."""
        kernel, stride, pad, dilation = (
            tuple(map(int, sizes)) for sizes in (w_shape[2:], stride, pad, dilation)
        )
        return cls(*map(int, x_shape), int(w_shape[0]), kernel, stride, pad, dilation, int(group))

    @property
    def down(self) -> int:
        """Lines of y."""
        return self._windows(self.height, 0)

    @property
    def across(self) -> int:
        """Columns of y."""
        return self._windows(self.width, 1)

    @property
    def taps(self) -> int:
        """Elements of a kernel."""
        return self.kernel[0] * self.kernel[1]

    @property
    def group_channels(self) -> int:
        """Channels that an output sees."""
        return self.channels // self.group

    @property
    def group_outputs(self) -> int:
        """Outputs that see the same channels."""
        return self.outputs // self.group

    @property
    def weights(self) -> int:
        """Weights of all outputs."""
        return self.outputs * self.group_channels * self.taps

    @property
    def x_plane(self) -> int:
        return self.height * self.width

    @property
    def y_plane(self) -> int:
        return self.down * self.across

    def _windows(self, size, axis):
        span = self.dilation[axis] * (self.kernel[axis] - 1) + 1
        return (size + 2 * self.pad[axis] - span) // self.stride[axis] + 1


def window_table(g: Geometry) -> np.ndarray:
    """Return the table of taps by which windows of x are gathered, (steps, STEP), of one group."""
    channel, r, s = np.indices((g.group_channels, *g.kernel)).reshape(3, -1)
    line, column = r * g.dilation[0] - g.pad[0], s * g.dilation[1] - g.pad[1]
    offset = channel * g.x_plane + line * g.width + column
    return np.stack([np.arange(offset.size), offset, line, column], axis=1).astype(np.int32)


def window_class(g: Geometry) -> np.ndarray:
    """Return the table of the one class that the pixels of y are, (1, CLASS)."""
    return np.array([[0, 0, g.down, g.across, 0, g.group_channels * g.taps]], np.int32)


def spread_tables(g: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """Return the tables of taps and of classes by which dx is gathered from dy.

    A class: its first line and column, how many of both it has, its first step in the table, its steps.
    """
    taps, classes, start = [], [], 0
    for first_line in range(min(g.stride[0], g.height)):
        lines = _taps_of(first_line, g, 0)
        for first_column in range(min(g.stride[1], g.width)):
            columns = _taps_of(first_column, g, 1)
            steps = _spread_steps(g, lines, columns)
            counts = -(-(g.height - first_line) // g.stride[0]), -(-(g.width - first_column) // g.stride[1])
            classes.append([first_line, first_column, *counts, start, len(steps)])
            taps.append(steps)
            start += len(steps)
    return np.concatenate(taps).astype(np.int32), np.array(classes, np.int32)


def _taps_of(first, g, axis):
    """Return the taps that meet the pixels `first`, `first` + stride, ..., as (tap, line of dy for the first)."""
    met = []
    for tap in range(g.kernel[axis]):
        distance = first + g.pad[axis] - tap * g.dilation[axis]
        if distance % g.stride[axis] == 0:
            met.append((tap, distance // g.stride[axis]))
    return met


def _spread_steps(g, lines, columns):
    pairs = [(r * g.kernel[1] + s, i, j) for r, i in lines for s, j in columns]
    taps = np.array(pairs, np.int64).reshape(-1, 3)
    output = np.repeat(np.arange(g.group_outputs), len(taps))
    tap, line, column = np.tile(taps, (g.group_outputs, 1)).T
    weight = output * (g.group_channels * g.taps) + tap
    offset = output * g.y_plane + line * g.across + column
    return np.stack([weight, offset, line, column], axis=1)
