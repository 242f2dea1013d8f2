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

import numba
import numpy as np

from caffetools.engine.cpu import simd
from caffetools.engine.cpu.conv_channels_image import TurnedLayout, turn_lines
from caffetools.engine.cpu.conv_filters import turn_filters
from caffetools.engine.cpu.conv_geometry import Geometry
from caffetools.engine.cpu.conv_products import source_axes, transposed_axis
from caffetools.engine.cpu.finish import Finish, arguments_of, finish_rows
from caffetools.engine.cpu.jit import kernel, parallel_kernel
from caffetools.engine.cpu.panels import Panels, panel_kernel, panel_start
from caffetools.engine.cpu.tiles import ADD, multiply_tile
from caffetools.engine.cpu.turn import move, mover, turn, turner
from caffetools.engine.cpu.workspace import scratch, thread_scratch

#: Turned images that are made before they are used; and most of what a block turns for itself, which stays in
#: an outer cache of one processor.
GROUP_BYTES, OWN_BYTES = 8 << 20, 512 << 10
#: Outputs of a block for each channel, and how few they may be where there is little work for many threads.
BLOCK_PIXELS, FEWEST_PIXELS = 192, 48
#: Blocks turn what they see where there are so many for each thread that they need not share it, and where they
#: do not see so much of the same that it is turned this many times.
BLOCKS_PER_THREAD, MOST_TURNS = 4, 1.25
#: Jobs that a call is cut into where its size allows; enough to keep many threads evenly busy.
JOBS = 64
#: Steps of the common axis whose filters stay in the first-level cache.
K_BLOCK = 256
#: Turning an element of the results or of the filters takes as long as this many multiplications.
RESULT_COST, PACK_COST = 16, 32
#: What a panel costs besides its products, in rows.
PANEL_COST = 0.5


#: What the kernel knows of a phase: after five numbers of its panels the lines that they cut; where its pixels and
#: its runs begin in the tables, its runs, their length, and where its filters begin; where its limits begin, rows
#: that it has in all images together, whether each line has limits of its own and whether some are empty; its place
#: among the phases; its rows and columns in a block.
(
    LINES, PLACE, FIRST_RUN, RUNS, LENGTH, DEPTH, LIMIT, ALL_ROWS, BY_ROWS, EMPTY, ROW_PHASE, COLUMN_PHASE, HIGH,
    ACROSS,
) = range(5, 19)  # fmt: skip


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


class ChannelsProduct:
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

    def run(
        self, x: np.ndarray, w: np.ndarray, bias: np.ndarray | None, y: np.ndarray, finish: Finish | None = None
    ) -> None:
        """Compute y (n, channels, rows, columns) from x."""
        lanes, copiers = simd.lanes_of(self.dtype), (turner(self.dtype), mover(self.dtype))
        layout, sizes = self.layout, (self.depth, self.rows, self.taps)
        depth = self.depth * self.taps
        packed = scratch("conv filters", self.groups * self.strips * depth * self.strip, self.dtype)
        taps = thread_scratch("conv taps", lanes * (self.taps + lanes) * lanes, self.dtype)
        cuts = self.groups, self.strips, self.vectors
        _pack_filters(copiers, lanes, w.reshape(-1), self.transposed, sizes, cuts, self.order, taps, packed)
        if self._blocks_turn():
            group_images, own, images = self.images, self.own_bytes // self.dtype.itemsize, packed
        else:
            # The last block may look at images or rows that are not there.
            slack = (self.block_images - 1) * layout.image + self.missing_rows * layout.steps[0]
            group_images, own = self.group_images, 0
            images = scratch("conv images", group_images * layout.image + slack, self.dtype)
        sums = (2 * self.block_pixels + 1) * self.strip
        memory = thread_scratch("conv sums", sums + own, self.dtype)
        for first in range(0, self.images, group_images):
            count = min(group_images, self.images - first)
            if not own:
                layout.turn(x, first, count, images)
            _multiply(
                copiers, x, images, packed, x.reshape(-1)[:0] if bias is None else bias, y, (first, count),
                (self.blocks, self.block_images, self.block_rows), (*cuts, lanes, self.rows, self.depth), depth,
                self.stride, self._table, (self.places, self.runs, self.limits), layout.frame,
                (layout.image, layout.steps[0], layout.block_rows(self.block_rows), own), memory,
                arguments_of(finish, self.dtype),
            )  # fmt: skip

    def _blocks_turn(self):
        """Say whether each block turns what it sees of the images itself. The numbers are the same either way."""
        all_blocks = -(-self.images // self.block_images) * self.blocks * self.groups
        enough = all_blocks >= BLOCKS_PER_THREAD * numba.get_num_threads()
        return enough and self.own_bytes <= OWN_BYTES and self.turns <= MOST_TURNS

    @cached_property
    def _table(self):
        """The phases as the kernel wants them: one row each, see `_multiply`."""
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


@parallel_kernel
def _pack_filters(copiers, lanes, w, transposed, sizes, cuts, order, taps, packed):
    """Copy the filters to [group][strip][tap in `order`][k][row of the strip].

    sizes: (depth, rows, taps). cuts: (groups, strips, vectors of a strip). taps: `thread_scratch` for
    `turn_filters`.
    """
    depth, rows, tap_count = sizes
    groups, strips, vectors = cuts
    width, blocks = vectors * lanes, (depth + lanes - 1) // lanes
    for job in numba.prange(groups * strips * vectors * blocks):
        first, v = job % blocks * lanes, job // blocks % vectors
        group, strip = divmod(job // (blocks * vectors), strips)
        row, count, place = strip * width + v * lanes, min(lanes, depth - first), numba.get_thread_id() * taps[1]
        target = (job // (blocks * vectors)) * depth * tap_count * width + v * lanes
        if transposed and tap_count == 1:
            # These filters lie as they are wanted.
            used, source = max(0, min(lanes, rows - row)), (group * depth + first) * rows + min(row, rows - 1)
            target += first * width
            move(copiers[1], (simd.at(w, source), rows, count, used), (simd.at(packed, target), width, lanes))
            continue
        turn_filters(copiers[0], lanes, w, transposed, sizes, group, row, first, count, taps[0], place)
        for t in range(tap_count):
            move(
                copiers[1],
                (simd.at(taps[0], place + t * lanes), tap_count * lanes, count, lanes),
                (simd.at(packed, target + (order[t] * depth + first) * width), width, lanes),
            )


@parallel_kernel
def _multiply(
    copiers, x, images, packed, bias, y, part, cuts, sizes, depth, stride, phases, tables, frame, steps, own, finish
):
    """Convolve some images.

    x: the images; images: those of `part`, (first, count), turned, unless each block turns what it sees of x
    itself. cuts: (blocks of an image, images of a block, rows of a block). sizes: (groups, strips, vectors of a
    strip, lanes, rows, channels of a group). depth: steps of the common axis. phases: their fields. tables:
    (places of pixels, starts of runs, limits of runs). frame: `TurnedLayout.frame`. steps: elements between two
    images and between two rows of a phase; turned rows that a block sees; elements that it turns, or 0. own:
    `thread_scratch` of a block's sums, twice, a bias and turned images.
    """
    first_image, count = part
    blocks, block_images, block_rows = cuts
    groups, strips, vectors, lanes, rows, channels = sizes
    places, runs, limits = tables
    width, one = vectors * lanes, y.dtype.type(1)
    height, columns = y.shape[2:]
    plane = height * columns
    all_blocks = (count + block_images - 1) // block_images * blocks
    # Blocks that turn what they see do it for all strips.
    together = strips if steps[3] > 0 else 1
    for job in numba.prange(groups * strips // together * all_blocks):
        first_strip, block = job // all_blocks * together, job % all_blocks
        group, n, top = first_strip // strips, block // blocks * block_images, block % blocks * block_rows
        memory, place, used_images = own[0], numba.get_thread_id() * own[1], min(block_images, count - n)
        biases = place + 2 * places.size * width
        if steps[3] > 0:
            seen, source = memory, biases + width
            line = top * steps[1] // (frame[1] * frame[5])
            end = frame[0] if block_images > 1 else min(frame[0], line + steps[2])
            for i in range(used_images):
                turn_lines(
                    copiers[0], lanes, x, first_image + n + i, (group * channels, (group + 1) * channels),
                    (line, end), frame, memory, source + i * steps[0],
                )  # fmt: skip
        else:
            seen, source = images, n * steps[0] + top * steps[1]
        for strip in range(first_strip, first_strip + together):
            row = strip % strips * width
            for m in range(width):
                known = bias.size > 0 and row + m < rows
                memory[biases + m] = bias[group * rows + row + m] if known else 0
            for phase in range(phases.shape[0]):
                fields = phases[phase]
                pixels = fields[HIGH] * fields[ACROSS]
                c = place + fields[PLACE] * width
                fresh = bias.size == 0 and not fields[EMPTY]
                if not fresh:
                    for v in range(0, width, lanes):
                        move(
                            copiers[1],
                            (simd.at(memory, biases + v), 0, pixels * block_images, lanes),
                            (simd.at(memory, c + v), width, lanes),
                        )
                # Rows that the last block of an image lacks are left out, as far as whole panels go.
                used = used_images * pixels
                if block_images == 1:
                    there = (height - fields[ROW_PHASE] + stride[0] - 1) // stride[0] - top
                    used = min(fields[HIGH], there) * fields[ACROSS]
                _add_products(
                    fields, top, used, (seen, source + group * channels), tables,
                    (packed, (strip * depth + fields[DEPTH]) * width), (memory, c), width, fresh, one,
                )  # fmt: skip
            results = place
            if phases.shape[0] > 1:
                results += places.size * width
                _interleave(
                    copiers[1], lanes, memory, place, results, phases, block_images, stride, columns, vectors
                )
            last = height if block_images > 1 else min(height, (top + block_rows) * stride[0])
            pixels = (last - top * stride[0]) * columns
            for i in range(used_images):
                channel = (first_image + n + i) * y.shape[1] + group * rows + row
                target, used = channel * plane + top * stride[0] * columns, min(width, rows - row)
                for pixel in range(0, pixels, lanes):
                    # The last vectors overlap rather than end early, which would need masks.
                    taken = min(lanes, pixels)
                    pixel = min(pixel, pixels - taken)
                    turn(
                        copiers[0],
                        (simd.at(memory, results + (i * pixels + pixel) * width), width, taken, used),
                        (simd.at(y, target + pixel), plane, taken),
                    )
                finish_rows(finish, group * rows + row, y, target, plane, used, pixels)


@kernel
def _add_products(fields, top, pixels, images, tables, filters, sums, width, fresh, one):
    """Add what the first `pixels` pixels of a phase see, times its filters, to sums, or store it if `fresh`.

    fields: of the phase. top: first row of the block. images, filters, sums: (flat array, place).
    """
    places, runs, limits = tables
    panels = fields[0], fields[1], fields[2], fields[3], fields[4]
    per_line, length = panels[0], fields[LENGTH]
    line_pixels = panel_start(panels, per_line)
    for first_run in range(0, fields[RUNS], max(1, K_BLOCK // max(1, length))):
        last_run = min(fields[RUNS], first_run + max(1, K_BLOCK // length))
        pieces = (length + K_BLOCK - 1) // K_BLOCK
        for piece in range(pieces):
            first, last = piece * length // pieces, (piece + 1) * length // pieces
            for line in range(fields[LINES]):
                limit = fields[LIMIT]
                if fields[BY_ROWS]:
                    limit += min(top + line % fields[HIGH], fields[ALL_ROWS] - 1)
                run, end = max(first_run, limits[limit, 0]), min(last_run, limits[limit, 1])
                if run < end:
                    flags = 0 if fresh and run == limits[limit, 0] and piece == 0 else ADD
                    for panel in range(per_line):
                        pixel = line * line_pixels + panel_start(panels, panel)
                        if pixel < pixels:
                            c = simd.at(sums[0], sums[1] + pixel * width)
                            multiply_tile(
                                panel_kernel(panels, panel),
                                (
                                    end - run,
                                    last - first,
                                    simd.at(images[0], images[1] + first),
                                    simd.at(places, fields[PLACE] + pixel),
                                    simd.at(runs, fields[FIRST_RUN] + run),
                                    simd.at(filters[0], filters[1] + (run * length + first) * width),
                                    width,
                                ),
                                (c, width, c, one, width, flags),
                            )


@kernel
def _interleave(mover, lanes, memory, place, results, phases, block_images, stride, columns, vectors):
    """Put the sums of all phases, [phase][image][row][column][channel], in the order of y's pixels."""
    width = vectors * lanes
    rows = 0
    for phase in range(0, phases.shape[0], stride[1]):
        rows += phases[phase, HIGH]
    for phase in range(phases.shape[0]):
        fields = phases[phase]
        source = place + fields[PLACE] * width
        for line in range(block_images * fields[HIGH]):
            image, row = line // fields[HIGH], line % fields[HIGH] * stride[0] + fields[ROW_PHASE]
            target = results + ((image * rows + row) * columns + fields[COLUMN_PHASE]) * width
            for v in range(0, width, lanes):
                move(
                    mover,
                    (simd.at(memory, source + line * fields[ACROSS] * width + v), width, fields[ACROSS], lanes),
                    (simd.at(memory, target + v), stride[1] * width, lanes),
                )
