"""The gradient of a convolution's filters.

    dw[m, k] += sum_n sum_p dy[n, m, p] image[n][taps[k] + address[p]]

The output channels are the lanes, so each job turns its part of dy to [pixel][channel] as it goes; the image
is the broadcast operand, and each row of a tile is one tap, which walks the image's rows from its own first
pixel. Images are summed in fixed chunks, and the chunks in order, so that the sum does not depend on the
number of threads.
"""

from __future__ import annotations

from functools import cached_property

import numba
import numpy as np

from caffetools.engine.cpu import simd
from caffetools.engine.cpu.conv_geometry import Geometry
from caffetools.engine.cpu.conv_products import copy_cost, group_size, image_groups, source_layout
from caffetools.engine.cpu.jit import kernel, parallel_kernel
from caffetools.engine.cpu.panels import Panels, panel_kernel, panel_start
from caffetools.engine.cpu.sums import total
from caffetools.engine.cpu.tiles import ADD, micro_kernel, multiply_tile
from caffetools.engine.cpu.turn import turn, turner
from caffetools.engine.cpu.workspace import scratch, thread_scratch

#: Pixels whose turned gradients stay in the first-level cache while the taps pass over them: 24 KiB of 32
#: floats each.
PIXEL_BLOCK = 192
#: Jobs that a call is cut into where its size allows; each turns its part of dy for itself, so no more than
#: needed.
JOBS = 16
#: How much longer products take than multiplications in registers; and the multiplications that it takes as long to
#: turn an element of dy, and to add one of the filters.
SLOWER, TURN_COST, ADD_COST = 1.1, 16, 200
#: Memory for partial sums, and the most chunks of images that are summed apart.
PARTIAL_BYTES, MOST_CHUNKS = 512 << 10, 16


class FilterGradient:
    """dw and db from x and dy."""

    def __init__(self, geometry: Geometry):
        self.geometry, self.layout = geometry, source_layout(geometry)
        self.taps = self.layout.offsets(geometry.group_channels)
        images, _, out_rows, out_columns = geometry.y_shape
        rows = np.arange(images)[:, None] * self.layout.image_step + np.arange(out_rows) * self.layout.pitch
        self.row_starts = rows.reshape(-1)

        lanes = simd.lanes_of(geometry.dtype)
        needed = -(-geometry.group_outputs // lanes)
        vectors = min((2, 3, 1), key=lambda vectors: (-(-needed // vectors) * vectors, abs(vectors - 2)))
        blocks, width = -(-needed // vectors), vectors * lanes
        self.vectors, self.cut = vectors, Panels.cut(len(self.taps), vectors)

        rows_block = max(1, PIXEL_BLOCK // out_columns)
        self.ones = np.ones(rows_block * out_columns, geometry.dtype)
        # One more tap sums up the gradient of the bias.
        partial = geometry.group * blocks * (len(self.taps) + 1) * width
        rows_together = group_size(images, self.layout, geometry.dtype) * out_rows
        chunks = min(
            MOST_CHUNKS, -(-rows_together // rows_block), PARTIAL_BYTES // (partial * geometry.dtype.itemsize)
        )
        chunks = max(1, chunks)
        panel_block = -(-self.cut.count // max(1, JOBS // (chunks * geometry.group * blocks)))
        self.tiling = lanes, width, blocks, rows_block, panel_block
        self.chunks, self.partial = chunks, chunks * partial
        self.turned = rows_block * out_columns * width
        rows = geometry.group * blocks * width
        turned = rows * geometry.y_plane * -(-self.cut.count // panel_block)
        products = SLOWER * geometry.y_plane * rows * len(self.taps)
        #: Multiplications for one image, those for nothing and the time for all else included.
        self.cost = products + copy_cost(self.layout) + TURN_COST * turned
        if images:
            self.cost += ADD_COST * rows * len(self.taps) / images

    def run(self, x: np.ndarray, dy: np.ndarray, dw: np.ndarray, db: np.ndarray | None) -> None:
        geometry = self.geometry
        turned = thread_scratch("conv turned", self.turned, geometry.dtype)
        partial = scratch("conv partial", self.partial, geometry.dtype)
        group_step = geometry.group_channels * self.layout.channel_step
        turning = turner(geometry.dtype)
        for first, count, image, place in image_groups(x, self.layout):
            _multiply_taps(
                turning, dy, (first, count), (image, place, group_step), self.taps, self.row_starts,
                self.chunks, geometry.group, self.tiling, self._panels, self._sum_kernel, self.ones,
                0 if first == 0 else ADD, turned, partial,
            )  # fmt: skip
        flat = dw.reshape(dw.shape[0], -1)
        _add_chunks(
            partial, self.chunks, geometry.group, self.tiling, flat, flat[0, :0] if db is None else db
        )

    @cached_property
    def _panels(self):
        return self.cut.with_kernels(self.geometry.dtype, self.vectors, form="rows")

    @cached_property
    def _sum_kernel(self):
        return micro_kernel(self.geometry.dtype, 1, self.vectors, form="rows")


@parallel_kernel
def _multiply_taps(
    turner,
    dy,
    part,
    images,
    taps,
    row_starts,
    chunks,
    groups,
    tiling,
    panels,
    sum_kernel,
    ones,
    add,
    turned,
    partial,
):
    """Sum over the images of each chunk into partial, [chunk][group][block][tap][channel]; one more tap sees
    only ones.

    part: (first, count) of the images of dy that `images`, (flat buffer, place of the first, distance of
    groups), holds. row_starts: where each row of each image begins for tap 0, whose own offset is 0. tiling:
    (lanes, channels of a block, blocks of a group, rows turned at once, panels of a job). add: 0 for the
    first part of a sum, ADD for others. turned: `thread_scratch` of the block of dy in use.
    """
    tap_count, one = taps.size, partial.dtype.type(1)
    first, count = part
    image, image_place, group_step = images
    _, width, blocks, rows_block, panel_block = tiling
    rows_per_image, row_length = dy.shape[2:]
    channels = dy.shape[1] // groups
    panel_jobs = (panels[0] + panel_block - 1) // panel_block
    for job in numba.prange(chunks * groups * blocks * panel_jobs):
        panel_job, block = job % panel_jobs, job // panel_jobs % blocks
        chunk, group = divmod(job // (panel_jobs * blocks), groups)
        first_row, last_row = (
            chunk * count * rows_per_image // chunks,
            (chunk + 1) * count * rows_per_image // chunks,
        )
        channel, used = group * channels + block * width, min(width, channels - block * width)
        place = numba.get_thread_id() * turned[1]
        source = simd.at(image, image_place + group * group_step)
        sums = ((chunk * groups + group) * blocks + block) * (tap_count + 1) * width
        for row in range(first_row, last_row, rows_block):
            rows = min(rows_block, last_row - row)
            flags = ADD if row > first_row else add
            start = first * rows_per_image + row
            _turn_rows(turner, dy, start, rows, channel, used, tiling, turned[0], place)
            gradients = simd.at(turned[0], place)
            if panel_job == 0:
                c = simd.at(partial, sums + tap_count * width)
                multiply_tile(
                    sum_kernel,
                    (
                        1,
                        rows * row_length,
                        simd.at(ones, 0),
                        simd.at(taps, 0),
                        simd.at(taps, 0),
                        gradients,
                        width,
                    ),
                    (c, width, c, one, width, flags),
                )
            for panel in range(panel_job * panel_block, min((panel_job + 1) * panel_block, panels[0])):
                tap = panel_start(panels, panel)
                c = simd.at(partial, sums + tap * width)
                multiply_tile(
                    panel_kernel(panels, panel),
                    (
                        rows,
                        row_length,
                        source,
                        simd.at(taps, tap),
                        simd.at(row_starts, row),
                        gradients,
                        width,
                    ),
                    (c, width, c, one, width, flags),
                )


@kernel
def _turn_rows(turner, dy, row, rows, channel, channels, tiling, turned, place):
    """Copy rows of images, numbered through, to [pixel][channel], zero beyond `channels` channels."""
    rows_per_image, row_length = dy.shape[2:]
    lanes, width = tiling[:2]
    plane = rows_per_image * row_length
    while rows > 0:
        n, start = divmod(row, rows_per_image)
        here = min(rows, rows_per_image - start)
        for m in range(0, width, lanes):
            source = (n * dy.shape[1] + channel + min(m, channels - 1)) * plane + start * row_length
            turn(
                turner,
                (simd.at(dy, source), plane, max(0, min(lanes, channels - m)), here * row_length),
                (simd.at(turned, place + m), width, lanes),
            )
        place += here * row_length * width
        row, rows = row + here, rows - here


@parallel_kernel
def _add_chunks(partial, chunks, groups, tiling, dw, db):
    """Add the chunks, in order, to dw (output channel, tap) and db (output channel); db may be empty."""
    _, width, blocks, _, _ = tiling
    channels, taps = dw.shape[0] // groups, dw.shape[1]
    chunk_step = groups * blocks * (taps + 1) * width
    for job in numba.prange(groups * blocks * (taps + 1)):
        tap = job % (taps + 1)
        group, block = divmod(job // (taps + 1), blocks)
        place, first = job * width, group * channels + block * width
        for chunk in range(1, chunks):
            for m in range(width):
                partial[place + m] += partial[place + chunk * chunk_step + m]
        for m in range(min(width, channels - block * width)):
            if tap < taps:
                dw[first + m, tap] += partial[place + m]
            elif db.size > 0:
                db[first + m] += partial[place + m]


@parallel_kernel
def add_bias_gradient(dy, db):
    """db[m] += sum of dy[:, m], for those who need no gradient of the filters."""
    images, channels = dy.shape[:2]
    plane = dy.shape[2] * dy.shape[3]
    flat = dy.reshape(-1)
    for m in numba.prange(channels):
        sum_of_images = dy.dtype.type(0)
        for n in range(images):
            start = (n * channels + m) * plane
            sum_of_images += total(flat[start : start + plane])
        db[m] += sum_of_images
