"""The gradient of a convolution's filters with output channels as lanes, for every stride and dilation.

    dw[t, c, m] += sum over pixels p of x[pixel(p, t), c] dy[p, m]

Images and gradients are turned to [row][column][channel] first (`conv_channels_image`). A tile of the product
has a few of the channels that neighbouring taps see as rows, and the pixels of whole rows of outputs are
walked one after the other, a stride apart in x. Jobs share the tiles out among them, not the pixels, unless
there are few: then chunks of rows are summed apart, and the chunks in order, so that the sum does not depend
on the number of threads.
"""

from __future__ import annotations

from functools import cached_property

import numba
import numpy as np

from caffetools.engine.cpu import simd
from caffetools.engine.cpu.conv_channels_image import TurnedLayout
from caffetools.engine.cpu.conv_geometry import Geometry
from caffetools.engine.cpu.conv_image import Axis
from caffetools.engine.cpu.conv_products import source_axes
from caffetools.engine.cpu.jit import kernel, parallel_kernel
from caffetools.engine.cpu.panels import Panels, panel_kernel, panel_start
from caffetools.engine.cpu.tiles import ADD, micro_kernel, multiply_tile
from caffetools.engine.cpu.turn import turn, turner
from caffetools.engine.cpu.workspace import scratch, thread_scratch

#: Turned images and gradients that are made before they are used, and the fewest pixels among them.
GROUP_BYTES, FEWEST_PIXELS = 2 << 20, 512
#: Pixels whose gradients stay in the first-level cache while the tiles pass over them.
PIXEL_BLOCK = 192
#: Jobs that a call is cut into where its size allows, and the fewest panels that share a block of gradients.
JOBS, FEWEST_PANELS = 64, 8
#: The most chunks of rows that are summed apart, and memory for their sums.
MOST_CHUNKS, PARTIAL_BYTES = 16, 1 << 20
#: How much longer products take than multiplications in registers; the multiplications that it takes as long to add
#: an element of the filters; and what a panel costs besides its products, in rows.
SLOWER, ADD_COST, PANEL_COST = 1.05, 40, 0.5


class ChannelsFilterGradient:
    """dw and db from x and dy."""

    def __init__(self, geometry: Geometry):
        self.geometry, self.dtype = geometry, geometry.dtype
        self.images, outputs, *self.y_size = geometry.y_shape
        self.layout = TurnedLayout(geometry.x_shape[1], geometry.x_shape[2:], tuple(source_axes(geometry)))
        plain = (Axis(size, 1, 0, (0,), size) for size in self.y_size)
        self.gradients = TurnedLayout(outputs, tuple(self.y_size), tuple(plain))
        axes = self.layout.axes
        taps = [(row // self.layout.row_step, column) for row in axes[0].shifts for column in axes[1].shifts]
        runs, self.length = self.layout.runs(geometry.group_channels, taps)
        self.runs = np.array(runs)

        lanes = simd.lanes_of(self.dtype)
        needed = -(-geometry.group_outputs // lanes)
        self.vectors = min((2, 3, 1), key=lambda count: (-(-needed // count) * count, abs(count - 2)))
        self.strip = self.vectors * lanes
        self.strips = -(-geometry.group_outputs // self.strip)
        #: How the channels of a run are cut, and all panels of all runs are dealt to jobs.
        self.cut = Panels.cut(self.length, self.vectors)
        panels, others = self.cut.count * len(runs), geometry.group * self.strips
        self.parts = max(1, min(panels // FEWEST_PANELS, JOBS // others))
        image_bytes = (self.layout.image + self.gradients.image) * self.dtype.itemsize
        together = max(GROUP_BYTES // image_bytes, -(-FEWEST_PIXELS // geometry.y_plane))
        self.group_images = min(self.images, max(1, together))
        self.block_rows = max(1, PIXEL_BLOCK // self.y_size[1])
        row_blocks = -(-self.group_images * self.y_size[0] // self.block_rows)
        # One more step than those of the filters is the gradient of the bias.
        sums = others * (geometry.group_channels * geometry.taps + 1) * self.strip
        fitting = PARTIAL_BYTES // (sums * self.dtype.itemsize)
        self.chunks = max(1, min(MOST_CHUNKS, JOBS // (others * self.parts), row_blocks, fitting))
        self.partial = self.chunks * sums
        self._sizes = geometry.group, self.strips, self.vectors, lanes, geometry.group_outputs, geometry.group_channels
        self._cuts = self.chunks, self.parts, self.block_rows
        self._filters_size = lanes * (lanes * geometry.taps + lanes)
        rows = np.arange(self.group_images)[:, None] * self.layout.image
        self.row_starts = (rows + np.arange(self.y_size[0]) * self.layout.steps[0]).reshape(-1)
        self.gradient_starts = np.arange(self.block_rows) * self.gradients.line
        self.ones = np.ones(self.block_rows * self.y_size[1], self.dtype)

    @property
    def cost(self) -> float:
        """Multiplications for one image, those for nothing and the time for turning included."""
        g = self.geometry
        panels = (self.length + PANEL_COST * self.cut.count) * len(self.runs)
        products = SLOWER * g.y_plane * panels * g.group * self.strips * self.strip
        added = g.group * self.strips * self.strip * g.group_channels * g.taps * self.chunks
        return products + self.layout.cost + self.gradients.cost + ADD_COST * added / g.images

    def run(self, x: np.ndarray, dy: np.ndarray, dw: np.ndarray, db: np.ndarray | None) -> None:
        g, layout, gradients = self.geometry, self.layout, self.gradients
        turned_x = scratch("conv images", self.group_images * layout.image, self.dtype)
        # The last strip is read to its end.
        turned_dy = scratch("conv gradients", self.group_images * gradients.image + self.strip, self.dtype)
        partial = scratch("conv partial", self.partial, self.dtype)
        sizes, pitches, copier = self._sizes, (layout.steps[1], gradients.pitch), turner(self.dtype)
        for first in range(0, self.images, self.group_images):
            count = min(self.group_images, self.images - first)
            layout.turn(x, first, count, turned_x)
            gradients.turn(dy, first, count, turned_dy)
            _multiply(
                turned_x, turned_dy, count * self.y_size[0], self.y_size[1], self._cuts, sizes, self.runs, self.length,
                self.row_starts, self.gradient_starts, pitches, self._panels,
                self._sum_kernel, self.ones, 0 if first == 0 else ADD, partial,
            )  # fmt: skip
        # For a vector of outputs, with a vector of channels each: also where there are fewer channels.
        filters = thread_scratch("conv taps", self._filters_size, self.dtype)
        flat = dw.reshape(dw.shape[0], -1)
        _add_filters(
            copier, partial, self.chunks, sizes, g.taps, filters, flat, flat[0, :0] if db is None else db
        )

    @cached_property
    def _panels(self):
        return self.cut.with_kernels(self.dtype, self.vectors, form="blocks")

    @cached_property
    def _sum_kernel(self):
        return micro_kernel(self.dtype, 1, self.vectors, form="blocks")


@parallel_kernel
def _multiply(
    images, gradients, rows, columns, cuts, sizes, runs, length, row_starts, gradient_starts, pitches, panels,
    sum_kernel, ones, add, partial,
):  # fmt: skip
    """Sum over the rows of outputs of each chunk into partial, [chunk][group][strip][run][channel][output]; one
    more step is the sum of the gradients.

    rows, columns: of outputs, the rows numbered through all images. cuts: (chunks, parts that the panels are
    dealt to, rows of a block). sizes: (groups, strips, vectors of a strip, lanes, outputs, channels of a group).
    row_starts: where tap 0 begins to see x for each row. gradient_starts: where the rows of a block begin. pitches:
    elements between two outputs in images and gradients. add: 0 for the first part of a sum, ADD for others.
    """
    chunks, parts, block_rows = cuts
    groups, strips, vectors, lanes, outputs, channels = sizes
    width, one = vectors * lanes, partial.dtype.type(1)
    steps, all_panels = runs.size * length, runs.size * panels[0]
    for job in numba.prange(chunks * groups * strips * parts):
        part, strip, chunk = job % parts, job // parts % (groups * strips), job // (parts * groups * strips)
        group = strip // strips
        sums = (chunk * groups * strips + strip) * (steps + 1) * width
        channel = group * outputs + strip % strips * width
        first_row, last_row = chunk * rows // chunks, (chunk + 1) * rows // chunks
        for row in range(first_row, last_row, block_rows):
            count, flags = min(block_rows, last_row - row), ADD if row > first_row else add
            b = simd.at(gradients, row * columns * pitches[1] + channel)
            starts = simd.at(row_starts, row)
            if part == 0:
                c = simd.at(partial, sums + steps * width)
                multiply_tile(
                    sum_kernel,
                    (1, count * columns, simd.at(ones, 0), simd.at(runs, 0), 1, b, simd.at(runs, 0), pitches[1]),
                    (c, width, c, one, width, flags),
                )
            for panel in range(part * all_panels // parts, (part + 1) * all_panels // parts):
                run, place = panel // panels[0], panel_start(panels, panel % panels[0])
                a = simd.at(images, runs[run] + group * channels + place)
                c = simd.at(partial, sums + (run * length + place) * width)
                kernel = panel_kernel(panels, panel % panels[0])
                multiply_tile(
                    kernel,
                    (count, columns, a, starts, pitches[0], b, simd.at(gradient_starts, 0), pitches[1]),
                    (c, width, c, one, width, flags),
                )


@parallel_kernel
def _add_filters(turner, partial, chunks, sizes, taps, turned, dw, db):
    """Add the chunks, in order, to dw (output channel, (channel, tap)) and db (output channel); db may be empty.

    turned: `thread_scratch` for the filters of one vector of outputs and as many channels, [output][channel][tap],
    and a vector for each output.
    """
    groups, strips, vectors, lanes, outputs, channels = sizes
    width, steps, blocks = vectors * lanes, channels * taps, (channels + lanes - 1) // lanes
    line = lanes * taps + lanes
    chunk_step = groups * strips * (steps + 1) * width
    for job in numba.prange(groups * strips * vectors * blocks):
        channel, v, strip = job % blocks * lanes, job // blocks % vectors * lanes, job // (blocks * vectors)
        count, output = min(lanes, channels - channel), strip % strips * width + v
        source, place = strip * (steps + 1) * width + v, numba.get_thread_id() * turned[1]
        used, first = min(lanes, outputs - output), strip // strips * outputs + output
        for chunk in range(1, chunks):
            for tap in range(taps):
                there = source + (tap * channels + channel) * width
                _add_rows(partial, there + chunk * chunk_step, there, count, width, lanes)
            if channel == 0:
                there = source + steps * width
                _add_rows(partial, there + chunk * chunk_step, there, 1, width, lanes)
        if channel == 0 and db.size > 0:
            for m in range(used):
                db[first + m] += partial[source + steps * width + m]
        if used > 0:
            there = source + channel * width
            _turn_taps(turner, lanes, partial, there, channels * width, width, taps, count, turned[0], place, line)
        for m in range(used):
            there = place + m * line
            for k in range(np.uint64(count * taps)):
                dw[first + m, np.uint64(channel * taps) + k] += turned[0][np.uint64(there) + k]


@kernel
def _add_rows(memory, source, place, rows, step, lanes):
    for row in range(rows):
        for m in range(np.uint64(lanes)):
            memory[np.uint64(place + row * step) + m] += memory[np.uint64(source + row * step) + m]


@kernel
def _turn_taps(turner, lanes, partial, source, tap_step, step, taps, channels, out, place, line):
    """Turn [tap][channel][output] to [output][channel][tap]; what is written beyond a channel's taps, the next
    channel's replace.
    """
    if taps == 1:
        turn(turner, (simd.at(partial, source), step, channels, lanes), (simd.at(out, place), line, lanes))
        return
    for channel in range(channels):
        for tap in range(0, taps, lanes):
            turn(
                turner,
                (simd.at(partial, source + channel * step + tap * tap_step), tap_step, min(lanes, taps - tap), lanes),
                (simd.at(out, place + channel * taps + tap), line, lanes),
            )
