"""How a convolution sees its images: padded, and split into phases so that every stride becomes stride 1.

Phase (a, b) of an image holds the pixels whose row is a and whose column is b modulo the stride, counted from
the corner of the padding. Within a phase the pixels that one tap needs for neighbouring outputs are
neighbours, whatever the stride, and the whole convolution becomes a table of one offset a tap plus a table of
one address an output pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

from caffetools.engine.cpu import simd
from caffetools.engine.cpu.jit import kernel, parallel_kernel
from caffetools.engine.cpu.tiles import LONGEST_SPAN
from caffetools.engine.cpu.turn import move_block, mover


@dataclass(frozen=True)
class Axis:
    """One spatial axis of the image that the taps look at.

    size: pixels of the source. stride: pixels between two outputs. pad: zeros before the first pixel
    (negative: pixels that no tap sees). shifts: for each tap, its distance from the first padded pixel. out:
    number of outputs.
    """

    size: int
    stride: int
    pad: int
    shifts: tuple[int, ...]
    out: int

    @property
    def phases(self) -> np.ndarray:
        """The phases that any tap looks at."""
        return np.unique(np.array(self.shifts, np.int64) % self.stride)

    @property
    def length(self) -> int:
        """Pixels of one phase."""
        return self.out + max(self.shifts) // self.stride

    def places(self) -> list[tuple[int, int]]:
        """Return (index of the phase, position in it) of each tap for output 0."""
        phases = list(self.phases)
        return [(phases.index(shift % self.stride), shift // self.stride) for shift in self.shifts]


class ImageLayout:
    """Where the pixels of images of `channels` planes lie: in the source itself if that will do, else in a
    padded copy.

    in_place: whether the source itself is good enough. taps: offset of every (row tap, column tap) of one
    channel. channel_step, image_step: elements between two of them. axes: what `copy_plane` wants to know.
    """

    def __init__(self, channels: int, rows: Axis, columns: Axis):
        self.channels, self.rows, self.columns = channels, rows, columns
        plain = all(
            axis.stride == 1 and axis.pad == 0 and axis.length <= axis.size for axis in (rows, columns)
        )
        self.in_place = plain and simd.masked_loads()
        height, self.pitch = (rows.size, columns.size) if self.in_place else (rows.length, columns.length)
        plane = height * self.pitch
        self.channel_step = plane if self.in_place else len(rows.phases) * len(columns.phases) * plane
        self.image_step = channels * self.channel_step
        self.taps = np.array(
            [
                (row_phase * len(columns.phases) + column_phase) * plane + row * self.pitch + column
                for row_phase, row in rows.places()
                for column_phase, column in columns.places()
            ],
            np.int64,
        )
        self.axes = (
            *((axis.size, axis.stride, axis.pad, axis.length) for axis in (rows, columns)),
            *(axis.phases for axis in (rows, columns)),
        )
        # What whole-vector loads may touch beyond the last pixel where masked loads are not to be had.
        self.slack = (
            0 if self.in_place else LONGEST_SPAN * max(0, self.pitch - columns.out) + 2 * simd.MOST_LANES
        )

    def offsets(self, channels: int) -> np.ndarray:
        """Return the offset of every tap k = (channel, row, column) of the first `channels` channels."""
        return (np.arange(channels)[:, None] * self.channel_step + self.taps[None, :]).reshape(-1)

    def copy(self, x: np.ndarray, first: int, count: int, out: np.ndarray) -> None:
        """Write `count` images of x (n, channels, height, width), from `first` on, to `out`."""
        copier = mover(x.dtype), simd.lanes_of(x.dtype)
        _copy_images(x, first, count, *self.axes, copier, out)


class PixelTable:
    """The address of every output pixel of one plane, for the "table" operand of micro-kernels.

    entries: a row (address, bound 1, ..., bound spans) for each vector of pixels in raster order; the last
    tile is filled up with vectors without pixels. gap: what is skipped between two rows of the image.
    """

    def __init__(self, out_rows: int, out_columns: int, pitch: int, lanes: int, vectors: int):
        pixels = out_rows * out_columns
        self.gap = pitch - out_columns
        if self.gap == 0:
            out_columns = pixels
        first = np.arange(0, pixels, lanes)
        column = first % out_columns
        self.spans = int(np.max((column + np.minimum(lanes, pixels - first) - 1) // out_columns)) + 1
        tiles = -(-len(first) // vectors)
        self.entries = np.zeros((tiles * vectors, self.spans + 1), np.int64)
        self.entries[: len(first), 0] = first // out_columns * pitch + column
        for span in range(self.spans):
            bound = np.minimum((span + 1) * out_columns - column, np.minimum(lanes, pixels - first))
            self.entries[: len(first), span + 1] = bound


@parallel_kernel
def _copy_images(x, first, count, row_axis, column_axis, row_phases, column_phases, copier, out):
    channels = x.shape[1]
    plane = x.shape[2] * x.shape[3]
    step = row_phases.size * row_axis[3] * column_phases.size * column_axis[3]
    for job in numba.prange(count * channels):
        source = (first * channels + job) * plane
        copy_plane(x, source, row_axis, column_axis, row_phases, column_phases, copier, out, job * step)


@kernel
def copy_plane(x, source, row_axis, column_axis, row_phases, column_phases, copier, out, place):
    """Write the plane that begins at element `source` of x, padded and split into phases, to the flat `out`.

    row_axis, column_axis: (size, stride, pad, length of a phase). copier: (kernel of `move`, lanes).
    """
    height, row_stride, row_pad, row_length = row_axis
    width, column_stride, column_pad, column_length = column_axis
    mover, lanes = copier
    flat = x.reshape(-1)
    for row_phase in row_phases:
        top, first_row, last_row = _inside(height, row_stride, row_pad, row_phase, row_length)
        for column_phase in column_phases:
            left, first, last = _inside(width, column_stride, column_pad, column_phase, column_length)
            if first_row > 0 or first > 0 or last_row < row_length or last < column_length:
                for i in range(place, place + row_length * column_length):
                    out[np.uint64(i)] = 0
            target, rows = place + first_row * column_length + first, last_row - first_row
            start = source + top * width + left
            if column_stride == 1:
                row_step = row_stride * width
                move_block(mover, lanes, x, start, row_step, out, target, column_length, rows, last - first)
            else:
                # Unsigned indices: numba looks for negative ones otherwise, and nothing becomes a vector.
                for i in range(rows):
                    there, here = start + i * row_stride * width, target + i * column_length
                    for j in range(np.uint64(last - first)):
                        out[np.uint64(here) + j] = flat[np.uint64(there) + j * np.uint64(column_stride)]
            place += row_length * column_length


@kernel
def _inside(size, stride, pad, phase, length):
    """Return the first source pixel of a phase, and the part (first, last) of the phase that has pixels."""
    start = phase - pad
    first = min(max(0, (stride - 1 - start) // stride), length)
    last = min(max(first, (size - start + stride - 1) // stride), length)
    return first * stride + start, first, last
