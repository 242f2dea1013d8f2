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
from caffetools.engine.cpu.jit import parallel_kernel
from caffetools.engine.cpu.tiles import LONGEST_SPAN


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

    taps: offset of every (row tap, column tap) of one channel; channel_step, image_step: elements between two
    of them.
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
        # What whole-vector loads may touch beyond the last pixel where masked loads are not to be had.
        self.slack = (
            0 if self.in_place else LONGEST_SPAN * max(0, self.pitch - columns.out) + 2 * simd.MOST_LANES
        )

    def offsets(self, channels: int) -> np.ndarray:
        """Return the offset of every tap k = (channel, row, column) of the first `channels` channels."""
        return (np.arange(channels)[:, None] * self.channel_step + self.taps[None, :]).reshape(-1)

    def copy(self, x: np.ndarray, first: int, count: int, out: np.ndarray) -> None:
        """Write `count` images of x (n, channels, height, width), from `first` on, to `out`."""
        rows, columns = self.rows, self.columns
        row_axis = rows.stride, rows.pad, rows.phases, rows.length
        column_axis = columns.stride, columns.pad, columns.phases, columns.length
        _copy_images(x, first, count, row_axis, column_axis, out)


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
def _copy_images(x, first, count, row_axis, column_axis, out):
    """row_axis, column_axis: (stride, pad, phases, length of a phase)."""
    row_stride, row_pad, row_phases, row_length = row_axis
    column_stride, column_pad, column_phases, column_length = column_axis
    channels, height, width = x.shape[1:]
    plane = row_length * column_length
    zero = x.dtype.type(0)
    for job in numba.prange(count * channels):
        source = x[first + job // channels, job % channels]
        place = job * row_phases.size * column_phases.size * plane
        for row_phase in row_phases:
            for column_phase in column_phases:
                # The columns j that exist in the source: 0 <= j * stride + start < width.
                start = column_phase - column_pad
                begin = min(max(0, (column_stride - 1 - start) // column_stride), column_length)
                end = min(max(begin, (width - start + column_stride - 1) // column_stride), column_length)
                for i in range(row_length):
                    row = i * row_stride + row_phase - row_pad
                    if row < 0 or row >= height:
                        out[place : place + column_length] = zero
                    else:
                        out[place : place + begin] = zero
                        if column_stride == 1:
                            for j in range(begin, end):
                                out[place + j] = source[row, j + start]
                        else:
                            for j in range(begin, end):
                                out[place + j] = source[row, j * column_stride + start]
                        out[place + end : place + column_length] = zero
                    place += column_length
