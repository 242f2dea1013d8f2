"""Depthwise convolution: each channel has one filter of its own, and there is no matrix product to speak of.

Channels are the lanes, whatever the size of a plane and the stride: a job turns a strip of rows of as many
channels to [pixel][channel], pads them, sums the taps pixel by pixel and turns the sums back. The data
gradient is the same with filters from behind and dy's pixels as far apart as the stride says.
"""

from __future__ import annotations

import numba
import numpy as np

from caffetools.engine.cpu import simd
from caffetools.engine.cpu.conv_channels_image import AHEAD, LARGEST_NEXT, turn_row
from caffetools.engine.cpu.conv_geometry import Geometry
from caffetools.engine.cpu.conv_weights import add_bias_gradient
from caffetools.engine.cpu.depthwise import sum_pixels, sum_taps, window_kernel
from caffetools.engine.cpu.finish import Finish, arguments_of, finish_rows
from caffetools.engine.cpu.jit import kernel, parallel_kernel
from caffetools.engine.cpu.kept import Kept
from caffetools.engine.cpu.one_thread import threads_now
from caffetools.engine.cpu.turn import move, mover, turn, turner
from caffetools.engine.cpu.workspace import scratch, thread_scratch

#: Bytes of the padded pixels of one strip: what is made of them fits an outer cache as well.
STRIP_BYTES = 128 << 10
#: Jobs that a call is cut into where its size allows; enough to keep many threads evenly busy.
JOBS = 64
#: Filter taps whose gradients are held in registers, and the most chunks of images, or of their strips, that are summed
#: apart.
MOST_TAPS, MOST_CHUNKS = 12, 16
#: Rows of y in a strip at least, where images are cut for many threads: neighbours see the same rows of x.
FEWEST_ROWS = 4


def is_depthwise(geometry: Geometry) -> bool:
    """Say whether each channel has exactly one filter."""
    return geometry.group > 1 and geometry.group_channels == geometry.group_outputs == 1


class Strips:
    """How the rows of y are cut, and what of x each strip sees.

    axes: for rows and columns, (pixels of x, pixels of y, pixels between two outputs, between two pixels of x,
    padding before the first, taps, between two taps), all but the first two counted in padded pixels.
    """

    def __init__(self, geometry: Geometry, transposed: bool, most_rows: int | None = None):
        axes = []
        for i in range(2):
            x, y, taps = geometry.x_shape[2 + i], geometry.y_shape[2 + i], geometry.w_shape[2 + i]
            stride, pad, dilation = (sizes[i] for sizes in (geometry.stride, geometry.pad, geometry.dilation))
            if transposed:
                axes.append((y, x, 1, stride, dilation * (taps - 1) - pad, taps, dilation))
            else:
                axes.append((x, y, stride, 1, pad, taps, dilation))
        self.axes = tuple(axes)
        (_, rows, stride, _, _, _, _), (width, y_width, _, _, _, _, _) = axes
        lanes = simd.lanes_of(geometry.dtype)
        line = self._padded(1, y_width) * lanes
        fitting = STRIP_BYTES // (line * geometry.dtype.itemsize) // stride
        self.rows = -(-rows // -(-rows // max(1, min(fitting, rows, most_rows or rows))))
        self.count = -(-rows // self.rows)
        padded_rows = self._padded(0, self.rows)
        #: Elements of a strip's padded pixels, of those before padding, and of its part of y.
        self.sizes = padded_rows * line, padded_rows * width * lanes, self.rows * y_width * lanes

    def _padded(self, axis, outputs):
        """Return how many padded pixels so many outputs see."""
        _, _, stride, _, _, taps, dilation = self.axes[axis]
        return (outputs - 1) * stride + dilation * (taps - 1) + 1


class DepthwiseProduct:
    """y from x, or dx from dy if `transposed`; x and y stand for the input and the output of either below."""

    keeps = False

    def __init__(self, geometry: Geometry, transposed: bool):
        self.geometry, self.transposed = geometry, transposed
        self.window = (*geometry.w_shape[2:], geometry.dilation[1])
        self.blocks = -(-geometry.group // simd.lanes_of(geometry.dtype))
        #: Chunks of images that share the preparation of filters; each is a job for each vector of channels.
        self.chunks = min(geometry.images, -(-JOBS // self.blocks))
        self._calls: dict[int, tuple] = {}

    def strips_for(self, threads: int) -> tuple[Strips, int]:
        """Return the strips for so many threads, and the number of parts that they are dealt to within an image."""
        strips, parts = Strips(self.geometry, self.transposed), 1
        wanted = -(-threads // max(1, self.blocks * self.chunks))
        if threads > 2 and wanted > 1:
            rows = strips.axes[0][1]
            if strips.count < wanted:
                strips = Strips(self.geometry, self.transposed, max(FEWEST_ROWS, rows // wanted))
            parts = min(strips.count, wanted)
        return strips, parts

    def _prepare(self, threads):
        """Return what all calls with so many threads have in common: elements of a thread's memory; what `_sum_strips`
        takes from `cuts` to `places`."""
        dtype, lanes = self.geometry.dtype, simd.lanes_of(self.geometry.dtype)
        strips, row_parts = self.strips_for(threads)
        places = np.array([*strips.sizes, self.window[0] * self.window[1] * lanes]).cumsum()
        cuts, copiers = (self.chunks, row_parts), (turner(dtype), mover(dtype), lanes)
        window = window_kernel(dtype, *self.window, False)
        return int(places[-1]) + lanes, (cuts, strips.axes, strips.rows, self.transposed, window, copiers, places)

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
        """Compute y from x; both are (n, channels, rows, columns). Filters are too few to be kept.

        channel: the one of y that gets the first result.
        """
        threads = threads_now()
        if threads not in self._calls:
            self._calls[threads] = self._prepare(threads)
        own_size, constants = self._calls[threads]
        own, flat = thread_scratch("depthwise", own_size, x.dtype), w.reshape(-1)
        known_bias = flat[:0] if bias is None else bias
        _sum_strips(x, flat, known_bias, y, channel, *constants, own, arguments_of(finish, x.dtype))


class DepthwiseFilterGradient:
    """dw and db from x and dy."""

    def __init__(self, geometry: Geometry):
        self.strips = Strips(geometry, transposed=False)
        rows, columns = geometry.w_shape[2:]
        #: Rows of taps that are summed at a time.
        fitting = (k for k in range(1, rows + 1) if rows % k == 0 and k * columns <= MOST_TAPS)
        self.tap_rows = max(fitting, default=1)
        self.window = self.tap_rows, columns, geometry.dilation[1]
        lanes = simd.lanes_of(geometry.dtype)
        self.chunks = min(geometry.images, MOST_CHUNKS)
        #: Parts that the strips of an image are dealt to.
        self.row_parts = min(self.strips.count, MOST_CHUNKS // max(1, self.chunks))
        self.partial = self.chunks * self.row_parts * -(-geometry.group // lanes) * lanes * geometry.taps

    def run(self, x: np.ndarray, dy: np.ndarray, dw: np.ndarray, db: np.ndarray | None) -> None:
        strips = self.strips
        own = thread_scratch("depthwise", sum(strips.sizes), x.dtype)
        partial = scratch("depthwise partial", self.partial, x.dtype)
        _filter_gradients(
            x, dy, dw.reshape(dw.shape[0], -1), (self.chunks, self.row_parts), strips.axes, strips.rows,
            self.tap_rows, window_kernel(x.dtype, *self.window, True),
            (turner(x.dtype), mover(x.dtype), simd.lanes_of(x.dtype)), np.array(strips.sizes).cumsum(), own,
            partial,
        )  # fmt: skip
        if db is not None:
            add_bias_gradient(dy, db)


@parallel_kernel
def _sum_strips(
    x, w, bias, y, first_channel, cuts, axes, strip_rows, transposed, address, copiers, places, own, finish
):
    """Convolve strip by strip.

    first_channel: the one of y that gets the first result. cuts: (chunks of images, parts of an image's strips) that
    are jobs of their own. axes: `Strips.axes`. strip_rows: rows of y in a strip.
    copiers: (kernel of `turn`, kernel of `move`, lanes). places, own: where the pixels before padding, the sums, the
    filters and the bias begin in a thread's `thread_scratch`, the padded pixels lying at its start.
    """
    turner, _, lanes = copiers
    channels = x.shape[1]
    y_rows, y_width = y.shape[2:]
    row_axis, column_axis = axes
    _, _, stride, _, _, tap_rows, dilation = row_axis
    _, _, column_stride, _, _, column_taps, column_dilation = column_axis
    taps = tap_rows * column_taps
    line = ((y_width - 1) * column_stride + column_dilation * (column_taps - 1) + 1) * lanes
    blocks = (channels + lanes - 1) // lanes
    chunks, row_parts = cuts
    strips = (y_rows + strip_rows - 1) // strip_rows
    for job in numba.prange(chunks * blocks * row_parts):
        row_part, chunk, channel = job % row_parts, job // (row_parts * blocks), job // row_parts % blocks * lanes
        used = min(lanes, channels - channel)
        memory, padded = own[0], numba.get_thread_id() * own[1]
        plain, sums, filters, biases = (
            padded + places[0], padded + places[1], padded + places[2], padded + places[3],
        )  # fmt: skip
        for m in range(lanes):
            known = min(channel + m, channels - 1)
            memory[biases + m] = bias[known] if bias.size > 0 else 0
            for tap in range(taps):
                seen = taps - 1 - tap if transposed else tap
                memory[filters + tap * lanes + m] = w[known * taps + seen]
        first, last = chunk * x.shape[0] // chunks, (chunk + 1) * x.shape[0] // chunks
        for strip in range(row_part * strips // row_parts, (row_part + 1) * strips // row_parts):
            row = strip * strip_rows
            rows = min(strip_rows, y_rows - row)
            for n in range(first, last):
                _pad_strip(
                    x, n, channel, row, rows, row_axis, column_axis, line, n == first, copiers, memory, plain,
                    padded,
                )  # fmt: skip
                sum_taps(
                    address,
                    (rows, y_width, simd.at(memory, padded), stride * line, column_stride * lanes,
                     dilation * line, simd.at(memory, filters), simd.at(memory, biases)),
                    (simd.at(memory, sums),),
                )  # fmt: skip
                target = ((n * y.shape[1] + first_channel + channel) * y_rows + row) * y_width
                count = min(lanes, rows * y_width)
                for pixel in range(0, rows * y_width, lanes):
                    # As in `turn_row`, the last vectors overlap.
                    pixel = min(pixel, rows * y_width - count)
                    turn(
                        turner,
                        (simd.at(memory, sums + pixel * lanes), lanes, count, used),
                        (simd.at(y, target + pixel), y_rows * y_width, count),
                    )
                finish_rows(finish, channel, y, target, y_rows * y_width, used, rows * y_width)


@kernel
def _pad_strip(x, n, channel, row, rows, row_axis, column_axis, line, fresh, copiers, memory, plain, padded):
    """Turn what `rows` rows of outputs from `row` on see of x to [row][column][channel], with zeros around and
    between, which are there already unless the strip is `fresh`; a row takes `line` elements.
    """
    turner, mover, lanes = copiers
    channels, height, width = x.shape[1:]
    _, _, stride, step, pad, taps, dilation = row_axis
    _, _, _, column_step, column_pad, _, _ = column_axis
    top, count = row * stride - pad, (rows - 1) * stride + dilation * (taps - 1) + 1
    # The rows and columns of x that lie in the strip: pixel i is padded pixel i * step + pad.
    first, last = max(0, (top + step - 1) // step), min(height, (top + count + step - 1) // step)
    left = max(0, (column_step - 1 - column_pad) // column_step)
    right = min(width, (line // lanes - column_pad + column_step - 1) // column_step)
    if first < last:
        source = ((n * channels + channel) * height + first) * width
        plane, used, pixels = height * width, min(lanes, channels - channel), (last - first) * width
        turn_row(turner, lanes, x, source, plane, used, pixels, _ahead(channels, plane), memory, plain, lanes, lanes)
    before, after = (left * column_step + column_pad) * lanes, ((right - 1) * column_step + column_pad + 1) * lanes
    for i in range(count):
        start, inside = padded + i * line, (top + i) % step == 0
        source = (top + i) // step
        inside = inside and first <= source < last and left < right
        if fresh and inside and column_step == 1:
            _clear(memory, start, start + before)
            _clear(memory, start + after, start + line)
        elif fresh:
            _clear(memory, start, start + line)
        if inside:
            move(
                mover,
                (simd.at(memory, plain + ((source - first) * width + left) * lanes), lanes, right - left, lanes),
                (simd.at(memory, start + before), column_step * lanes, lanes),
            )


@kernel
def _ahead(channels, plane):
    """Return how far ahead lies what is turned next: small planes in the next image, or more of the same planes."""
    return channels * plane if plane <= LARGEST_NEXT else AHEAD


@kernel
def _clear(memory, start, end):
    # Unsigned indices: numba looks for negative ones otherwise, and nothing becomes a vector.
    for i in range(np.uint64(start), np.uint64(end)):
        memory[i] = 0


@parallel_kernel
def _filter_gradients(x, dy, dw, cuts, axes, strip_rows, tap_rows, address, copiers, places, own, partial):
    """Sum over some strips of the images of each chunk into partial, [chunk][part of the strips][block of
    channels][tap][channel], then add these to dw (channel, tap) in order; the other arguments are those of
    `_sum_strips`.
    """
    turner, _, lanes = copiers
    channels, y_rows, y_width = dy.shape[1:]
    row_axis, column_axis = axes
    _, _, stride, _, _, filter_rows, dilation = row_axis
    _, _, column_stride, _, _, column_taps, column_dilation = column_axis
    taps = filter_rows * column_taps
    line = ((y_width - 1) * column_stride + column_dilation * (column_taps - 1) + 1) * lanes
    blocks = (channels + lanes - 1) // lanes
    chunks, row_parts = cuts
    strips = (y_rows + strip_rows - 1) // strip_rows
    for job in numba.prange(chunks * row_parts * blocks):
        part, channel = job // blocks, job % blocks * lanes
        chunk, row_part = part // row_parts, part % row_parts
        memory, padded = own[0], numba.get_thread_id() * own[1]
        plain, gradients, sums = padded + places[0], padded + places[1], job * taps * lanes
        _clear(partial, sums, sums + taps * lanes)
        first, last = chunk * x.shape[0] // chunks, (chunk + 1) * x.shape[0] // chunks
        for strip in range(row_part * strips // row_parts, (row_part + 1) * strips // row_parts):
            row = strip * strip_rows
            rows = min(strip_rows, y_rows - row)
            for n in range(first, last):
                _pad_strip(
                    x, n, channel, row, rows, row_axis, column_axis, line, n == first, copiers, memory, plain,
                    padded,
                )  # fmt: skip
                source = ((n * channels + channel) * y_rows + row) * y_width
                plane, used, pixels = y_rows * y_width, min(lanes, channels - channel), rows * y_width
                ahead = _ahead(channels, plane)
                turn_row(turner, lanes, dy, source, plane, used, pixels, ahead, memory, gradients, lanes, lanes)
                for a in range(0, filter_rows, tap_rows):
                    sum_pixels(
                        address,
                        (rows, y_width, simd.at(memory, padded + a * dilation * line), stride * line,
                         column_stride * lanes, dilation * line, simd.at(memory, gradients)),
                        (simd.at(partial, sums + a * column_taps * lanes),),
                    )  # fmt: skip
    for block in numba.prange(blocks):
        for part in range(chunks * row_parts):
            sums = (part * blocks + block) * taps * lanes
            for m in range(min(lanes, channels - block * lanes)):
                for tap in range(taps):
                    dw[block * lanes + m, tap] += partial[sums + tap * lanes + m]
