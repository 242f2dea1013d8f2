"""Convolution with output channels as lanes, for every stride, padding, dilation and group.

    y[p, m] = bias[m] + sum_{t, c} x[pixel(p, t), c] w[t, c, m]

Images are turned to [row][column][channel] first (`conv_channels_image`). A tile of the product then has a
few pixels as rows and a few vectors of output channels as columns: no vector crosses the edge of a plane,
whatever its size, and a stride only moves the pixels apart. A job makes a block of outputs for one strip of
channels and turns it to its place in y while it is in a near cache.

The data gradient of a convolution with stride s is s x s convolutions of dy with stride 1, one for each phase
of dx, with the taps of that phase; a block is made of the same rows of all phases.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product

import numpy as np

from caffetools.engine.cpu import simd
from caffetools.engine.cpu.conv_channels_image import TurnedLayout
from caffetools.engine.cpu.conv_channels_tiles import multiply, pack_filters
from caffetools.engine.cpu.conv_geometry import Geometry
from caffetools.engine.cpu.conv_packed import PackedProduct
from caffetools.engine.cpu.conv_products import source_axes, transposed_axis
from caffetools.engine.cpu.finish import Finish, arguments_of
from caffetools.engine.cpu.one_thread import threads_now
from caffetools.engine.cpu.panels import Panels
from caffetools.engine.cpu.turn import mover, turner
from caffetools.engine.cpu.workspace import scratch, thread_scratch

#: Turned images that are made before they are used; and most of what a block turns for itself, which stays in
#: an outer cache of one processor.
GROUP_BYTES, OWN_BYTES = 4 << 20, 512 << 10
#: Outputs of a block for each channel, and how few they may be where there is little work for many threads.
BLOCK_PIXELS, FEWEST_PIXELS = 192, 48
#: Blocks turn what they see where there are so many for each thread that they need not share it, and where they
#: do not see so much of the same that it is turned this many times.
BLOCKS_PER_THREAD, MOST_TURNS = 4, 1.25
#: Jobs that a call is cut into where its size allows; enough to keep many threads evenly busy.
JOBS = 64
#: Turning an element of the results or of the filters takes as long as this many multiplications.
RESULT_COST, PACK_COST = 16, 32
#: What a panel costs besides its products, in rows.
PANEL_COST = 0.5


@dataclass(frozen=True)
class Phase:
    """One phase of y, as much of it as a block has.

    place: its (row, column) among the phases. size: (rows, columns). pixels: where they lie in the turned
    images. runs, length: what its taps see from pixel 0, see `TurnedLayout.runs`. cut: how the pixels of a
    line are cut; lines: how many there are. limits: (first, end) of the runs that see more than padding, for
    each row of y; where all pixels are one line, there is one pair for all.
    """

    place: tuple[int, int]
    size: tuple[int, int]
    pixels: np.ndarray
    runs: list[int]
    length: int
    cut: Panels | None
    lines: int
    limits: np.ndarray

    @property
    def products(self) -> int:
        """Multiplications for one vector of one block."""
        if self.cut is None:
            return 0
        one = self.cut.rows + self.cut.count * PANEL_COST
        runs = (self.limits[:, 1] - self.limits[:, 0]).mean()
        return one * self.lines * runs * self.length


class ChannelsProduct(PackedProduct):
    """y from x, or dx from dy if `transposed`; x and y stand for the input and the output of either below."""

    def __init__(self, geometry: Geometry, transposed: bool):
        self.dtype, self.groups, self.transposed = geometry.dtype, geometry.group, transposed
        self.depth, self.rows, self.taps = geometry.group_channels, geometry.group_outputs, geometry.taps
        x_shape, self.y_size, self.stride = geometry.x_shape, geometry.y_shape[2:], (1, 1)
        if transposed:
            self.depth, self.rows = self.rows, self.depth
            x_shape, self.y_size, self.stride = geometry.y_shape, geometry.x_shape[2:], geometry.stride
            axes, taps = zip(*(transposed_axis(geometry, i) for i in range(2)), strict=True)
        else:
            axes = source_axes(geometry)
            taps = [[list(enumerate(axis.shifts))] for axis in axes]
        self.images, self.layout = geometry.images, TurnedLayout(x_shape[1], x_shape[2:], tuple(axes))
        lanes = simd.lanes_of(self.dtype)
        needed = -(-self.rows // lanes)
        self.vectors = min((2, 3, 1), key=lambda count: (-(-needed // count) * count, abs(count - 2)))
        self.strip = self.vectors * lanes
        self.strips = -(-self.rows // self.strip)
        self.packed_size = self.groups * self.strips * self.depth * self.taps * self.strip
        self._cut_blocks()
        #: Where each tap's filters lie among the packed ones.
        self.order = np.zeros(self.taps, np.int64)
        self.phases = []
        for place in product(*(range(stride) for stride in self.stride)):
            chosen = [sorted(taps[i][place[i]], key=lambda tap: tap[1]) for i in range(2)]
            self.phases.append(self._phase(place, *chosen))
            before = sum(len(phase.runs) * phase.length for phase in self.phases[:-1]) // max(1, self.depth)
            columns = geometry.w_shape[3]
            for i, ((a, _), (b, _)) in enumerate(product(*chosen)):
                self.order[a * columns + b] = before + i
        self.places = np.concatenate([phase.pixels for phase in self.phases])
        self.runs = np.array([run for phase in self.phases for run in phase.runs], np.int64)
        self.limits = np.concatenate([phase.limits for phase in self.phases])
        #: Outputs of a block for one channel.
        self.block_pixels = len(self.places)

    def _cut_blocks(self):
        """Choose of how many images, and how many rows of each phase, a block is made."""
        rows, columns = self.y_size
        all_rows = -(-rows // self.stride[0])
        little = self.images * rows * columns * self.groups * self.strips < JOBS * BLOCK_PIXELS
        wanted = FEWEST_PIXELS if little else BLOCK_PIXELS
        self.block_images = min(self.images, max(1, wanted // (rows * columns)))
        most_rows = min(all_rows, -(-wanted // (self.stride[0] * columns)))
        self.block_rows = -(-all_rows // -(-all_rows // most_rows))
        #: Blocks that an image is cut into.
        self.blocks = -(-all_rows // self.block_rows)
        self.missing_rows = self.blocks * self.block_rows - all_rows
        lines = self.layout.padded[0] if self.block_images > 1 else self.layout.block_rows(self.block_rows)
        missing = self.missing_rows * self.layout.steps[0]
        #: Bytes of what a block sees, turned, and of what the last one believes to see; turns of all.
        self.own_bytes = (self.block_images * lines * self.layout.line + missing) * self.dtype.itemsize
        self.turns = self.blocks * lines / self.layout.padded[0]
        together = GROUP_BYTES // (self.layout.image * self.dtype.itemsize) // self.block_images
        self.group_images = min(self.images, max(1, together) * self.block_images)

    def _phase(self, place, row_taps, column_taps):
        size = [-(-(self.y_size[i] - place[i]) // self.stride[i]) for i in range(2)]
        all_rows, columns = (max(0, count) for count in size)
        rows = min(all_rows, self.block_rows)
        image, row, column = np.indices((self.block_images, rows, columns)).reshape(3, -1)
        row_step, column_step = self.layout.steps
        pixels = image * self.layout.image + row * row_step + column * column_step
        shifts = [(row, column) for _, row in row_taps for _, column in column_taps]
        runs, length = self.layout.runs(self.depth, shifts) if shifts else ([], 0)
        phase = Phase(place, (rows, columns), pixels, runs, length, None, 1, np.array([[0, len(runs)]]))
        if pixels.size == 0:
            return phase
        # Either all pixels are one line, or each row is one and leaves out the taps that see rows of padding.
        whole = replace(phase, cut=Panels.cut(pixels.size, self.vectors))
        if not runs:
            return whole
        axis = self.layout.axes[0]
        seen = np.arange(all_rows)[:, None] * axis.stride + np.array([row for _, row in row_taps], np.int64)
        inside = (seen >= axis.pad) & (seen < axis.pad + axis.size)
        run_count = len(runs) // max(1, len(row_taps))
        limits = np.stack([inside.argmax(axis=1), inside.shape[1] - inside[:, ::-1].argmax(axis=1)], axis=1)
        limits[~inside.any(axis=1)] = 0
        by_rows = replace(
            phase, cut=Panels.cut(columns, self.vectors), lines=self.block_images * rows, limits=limits * run_count
        )
        return min(whole, by_rows, key=lambda phase: phase.products)

    @property
    def cost(self) -> float:
        """Multiplications for one image, those for nothing and the time for turning included."""
        used = self.rows * self.groups
        products = sum(phase.products for phase in self.phases)
        products *= self.blocks * self.groups * self.strips * self.strip / self.block_images
        results = RESULT_COST * self.y_size[0] * self.y_size[1] * used
        return products + self.layout.cost + results + PACK_COST * self.depth * used * self.taps / self.images

    def pack(self, w: np.ndarray, filters: np.ndarray) -> None:
        """Write the filters to `filters` as `run` wants them."""
        lanes, copiers = simd.lanes_of(self.dtype), (turner(self.dtype), mover(self.dtype))
        taps = thread_scratch("conv taps", lanes * (self.taps + lanes) * lanes, self.dtype)
        sizes, cuts = (self.depth, self.rows, self.taps), (self.groups, self.strips, self.vectors)
        pack_filters(copiers, lanes, w.reshape(-1), self.transposed, sizes, cuts, self.order, taps, filters)

    def run_packed(
        self,
        x: np.ndarray,
        filters: np.ndarray,
        bias: np.ndarray | None,
        y: np.ndarray,
        finish: Finish | None = None,
        channel: int = 0,
    ) -> None:
        """Compute y (n, channels, rows, columns) from x by packed filters."""
        layout = self.layout
        if self._blocks_turn():
            group_images, own, images = self.images, self.own_bytes // self.dtype.itemsize, filters
        else:
            # The last block may look at images or rows that are not there.
            slack = (self.block_images - 1) * layout.image + self.missing_rows * layout.steps[0]
            group_images, own = self.group_images, 0
            images = scratch("conv images", group_images * layout.image + slack, self.dtype)
        memory = thread_scratch("conv sums", (2 * self.block_pixels + 1) * self.strip + own, self.dtype)
        known_bias, finishing = x.reshape(-1)[:0] if bias is None else bias, arguments_of(finish, self.dtype)
        copiers, blocks, sizes, depth, phases, tables, frame, steps = self._constants
        for first in range(0, self.images, group_images):
            count = min(group_images, self.images - first)
            if not own:
                layout.turn(x, first, count, images)
            multiply(
                copiers, x, images, filters, known_bias, y, channel, (first, count), blocks, sizes, depth, self.stride,
                phases, tables, frame, (*steps, own), memory, finishing,
            )  # fmt: skip

    @cached_property
    def _constants(self):
        """What all calls hand to `multiply`: copiers, cuts, sizes, depth, phases, tables, frame and steps."""
        layout = self.layout
        return (
            (turner(self.dtype), mover(self.dtype)),
            (self.blocks, self.block_images, self.block_rows),
            (self.groups, self.strips, self.vectors, simd.lanes_of(self.dtype), self.rows, self.depth),
            self.depth * self.taps,
            self._table(),
            (self.places, self.runs, self.limits),
            layout.frame,
            (layout.image, layout.steps[0], layout.block_rows(self.block_rows)),
        )

    def _blocks_turn(self):
        """Say whether each block turns what it sees of the images itself. The numbers are the same either way."""
        all_blocks = -(-self.images // self.block_images) * self.blocks * self.groups
        enough = all_blocks >= BLOCKS_PER_THREAD * threads_now()
        return enough and self.own_bytes <= OWN_BYTES and self.turns <= MOST_TURNS

    def _table(self):
        """Return the phases as the kernel wants them: one row each, see `multiply`."""
        rows = []
        place = run = depth = limit = 0
        for phase in self.phases:
            panels = (0, 0, 0, 0, 0)
            if phase.cut is not None:
                panels = phase.cut.with_kernels(self.dtype, self.vectors, form="rows")
            # Where no tap sees anything, sums have to be cleared first.
            empty = (phase.limits[:, 0] == phase.limits[:, 1]).any()
            by_rows = len(phase.limits) > 1 or phase.lines > 1
            rows.append((
                *panels, phase.lines, place, run, len(phase.runs), phase.length, depth, limit, len(phase.limits),
                by_rows, empty, *phase.place, *phase.size,
            ))  # fmt: skip
            place, run, limit = place + phase.pixels.size, run + len(phase.runs), limit + len(phase.limits)
            depth += len(phase.runs) * phase.length
        return np.array(rows, np.int64)
