"""Images with channels innermost: how they are laid out for convolutions whose lanes are channels.

A plane of pixels becomes [image][row][column][channel], padded. A tap then sees consecutive channels, whatever
the stride, and the taps of a filter's row see one run of them, where no gap is left between the columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numba
import numpy as np

from caffetools.engine.cpu import simd
from caffetools.engine.cpu.conv_image import Axis
from caffetools.engine.cpu.jit import kernel, parallel_kernel
from caffetools.engine.cpu.prefetch import prefetch
from caffetools.engine.cpu.turn import turn, turner

#: From so many channels on, columns are moved apart so that they fall on different places of the caches.
SPREAD_FROM = 64
#: Where rows need no padding, so many pixels are turned at a time.
CHUNK = 128
#: Planes of at most so many pixels are fetched while those of the channels before are turned; of larger ones,
#: what is so many pixels ahead (measured).
LARGEST_NEXT, AHEAD = 1024, 128
#: Turning an element takes as long as this many multiplications, in whole vectors and one by one.
TURN_COST, SINGLE_COST = 16, 50


@dataclass(frozen=True)
class TurnedLayout:
    """Where the pixels of turned images lie.

    channels, size: of the source, size its (rows, columns). axes: how the taps see its rows and columns.
    """

    channels: int
    size: tuple[int, int]
    axes: tuple[Axis, Axis]

    @cached_property
    def row_step(self) -> int:
        """Source rows between two rows of the layout: all others are seen by no tap."""
        rows = self.axes[0]
        return rows.stride if max(rows.shifts) == 0 else 1

    @cached_property
    def padded(self) -> tuple[int, int]:
        """Rows and columns of the layout."""
        rows, columns = ((axis.out - 1) * axis.stride + max(axis.shifts) + 1 for axis in self.axes)
        return -(-rows // self.row_step), columns

    @cached_property
    def pitch(self) -> int:
        """Elements between two columns."""
        if self.channels < SPREAD_FROM:
            return self.channels
        lanes = simd.MOST_LANES
        return (-(-self.channels // lanes) | 1) * lanes

    @cached_property
    def line(self) -> int:
        """Elements between two rows."""
        return self.padded[1] * self.pitch

    @cached_property
    def image(self) -> int:
        """Elements between two images."""
        return self.padded[0] * self.line

    @property
    def cost(self) -> float:
        """Multiplications that take as long as one image takes to be turned."""
        whole = self.pitch // simd.MOST_LANES * simd.MOST_LANES
        return self.image / self.pitch * (TURN_COST * whole + SINGLE_COST * (self.pitch - whole))

    @cached_property
    def steps(self) -> tuple[int, int]:
        """Elements between two outputs, along rows and columns."""
        rows, columns = self.axes
        return rows.stride // self.row_step * self.line, columns.stride * self.pitch

    def block_rows(self, outputs: int) -> int:
        """Return how many rows of the layout so many rows of outputs see."""
        rows = self.axes[0]
        return ((outputs - 1) * rows.stride + max(rows.shifts)) // self.row_step + 1

    def runs(self, group_channels: int, taps: list[tuple[int, int]]) -> tuple[list[int], int]:
        """Return where the runs of channels begin that the taps see from output 0, and the length of all.

        taps: (row shift, column shift) in ascending order; the runs follow this order.
        """
        starts = [row * self.line + column * self.pitch for row, column in taps]
        columns = sum(row == taps[0][0] for row, _ in taps)
        if self.pitch == group_channels:
            lines = [starts[i : i + columns] for i in range(0, len(starts), columns)]
            if all(line == [line[0] + i * self.pitch for i in range(columns)] for line in lines):
                return [line[0] for line in lines], columns * group_channels
        return starts, group_channels

    @cached_property
    def frame(self) -> tuple[int, int, int, int, int, int]:
        """What the kernels want to know: rows, columns, rows above and columns left of the source, source rows
        between two rows, pitch.
        """
        return (*self.padded, *(axis.pad for axis in self.axes), self.row_step, self.pitch)

    def turn(self, x: np.ndarray, first: int, count: int, out: np.ndarray) -> None:
        """Write `count` images of x (n, channels, rows, columns), from `first` on, to `out`."""
        lines = 1
        if self.padded == self.size:
            lines = min(self.size[0], -(-CHUNK // self.size[1]))
        _turn_images(turner(x.dtype), simd.lanes_of(x.dtype), x, first, count, self.frame, lines, out)


@parallel_kernel
def _turn_images(turner, lanes, x, first, count, frame, lines, out):
    """Copy images to [image][row][column][channel], `lines` rows of one vector of channels in one job."""
    channels = x.shape[1]
    blocks, parts = (channels + lanes - 1) // lanes, (frame[0] + lines - 1) // lines
    # Rows come last: planes are read from end to end, which processors foresee.
    for job in numba.prange(count * blocks * parts):
        n, part = job // (parts * blocks), job % parts
        channel = job // parts % blocks * lanes
        rows = part * lines, min(frame[0], (part + 1) * lines)
        place = (n * frame[0] + rows[0]) * frame[1] * frame[5]
        turn_lines(turner, lanes, x, first + n, (channel, min(channel + lanes, channels)), rows, frame, out, place)


@kernel
def turn_lines(turner, lanes, x, n, channels, lines, frame, out, place):
    """Copy some channels and rows, (first, end) each, of image n to [row][column][channel], to where column 0
    of the first of these rows is in `out`. What lies between these channels and a full vector is overwritten.

    frame: `TurnedLayout.frame`.
    """
    height, width = x.shape[2:]
    rows, columns, top, left, row_step, pitch = frame
    # The columns of the source that are seen.
    begin, end = max(0, -left), min(width, columns - left)
    together = columns == width and left == 0 and row_step == 1
    for channel in range(channels[0], channels[1], lanes):
        used = min(lanes, channels[1] - channel)
        stored = lanes if channel + lanes <= pitch else used
        row = lines[0]
        while row < lines[1]:
            line = place + (row - lines[0]) * columns * pitch + channel
            source = row * row_step - top
            if 0 <= source < height and begin < end:
                # Where no padding is between them, all rows are one.
                count = min(lines[1] - row, height - source) if together else 1
                seen = (count - 1) * width + end - begin
                start = ((n * x.shape[1] + channel) * height + source) * width + begin
                target = line + (begin + left) * pitch
                _clear(out, line, begin + left, stored, pitch)
                # Small planes of the next channels follow these; of large ones there is more to come.
                plane = height * width
                ahead = lanes * plane if plane <= LARGEST_NEXT else AHEAD
                turn_row(turner, lanes, x, start, plane, used, seen, ahead, out, target, pitch, stored)
                _clear(out, target + seen * pitch, columns - end - left, stored, pitch)
                row += count
            else:
                _clear(out, line, columns, stored, pitch)
                row += 1


@kernel
def turn_row(turner, lanes, x, source, plane, channels, columns, ahead, out, place, pitch, stored):
    """Turn `columns` pixels of `channels` channels, from element `source` of x on, to [pixel][channel], `pitch`
    elements apart, with `stored` channels each.

    So many channels are read side by side that processors do not foresee it: what lies `ahead` elements further is
    fetched at the same time.
    """
    if stored < lanes:
        # A few channels are moved faster one by one than by vectors with masks. Unsigned indices: numba looks
        # for negative ones otherwise.
        flat = x.reshape(-1)
        for channel in range(channels):
            for column in range(columns):
                there = np.uint64(source + channel * plane + column)
                out[np.uint64(place + column * pitch + channel)] = flat[there]
    else:
        for column in range(0, columns, lanes):
            # The last vectors overlap rather than end early, which would need masks.
            seen = min(lanes, columns)
            column = min(column, columns - seen)
            for channel in range(channels):
                prefetch(simd.at(x, source + column + channel * plane + ahead))
            turn(
                turner,
                (simd.at(x, source + column), plane, channels, seen),
                (simd.at(out, place + column * pitch), pitch, stored),
            )


@kernel
def _clear(out, place, columns, channels, pitch):
    for column in range(columns):
        for channel in range(channels):
            out[np.uint64(place + column * pitch + channel)] = 0
