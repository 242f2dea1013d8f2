"""The product behind every convolution: filters times the pixels that their taps see, without unrolling images to columns.

    y[n, m, p] = bias[m] + sum_k w[m, k] image[n][offset[k] + address[p]]

Filters are packed into strips of rows once a call. Planes wide enough are read where they lie (`multiply_direct`); small planes
would leave most lanes empty, so there the pixels of all images are numbered through and gathered tile by tile (`multiply_gathered`).
"""

from __future__ import annotations

import numba

from caffetools.engine.cpu import simd
from caffetools.engine.cpu.jit import kernel, parallel_kernel
from caffetools.engine.cpu.panels import panel_height, panel_start

#: Taps in one block: what they see of a tile's pixels stays in the first-level cache.
K_BLOCK = 384


@parallel_kernel
def pack_filters(w, row_step, group_step, depth_offsets, rows, groups, panel_count, tall, tall_count, packed):
    """Copy element w[g * group_step + m * row_step + depth_offsets[k]] to [g][strip][k][row of the strip]."""
    flat = w.reshape(-1)
    depth = depth_offsets.size
    for job in numba.prange(groups * panel_count):
        group, panel = job // panel_count, job % panel_count
        start, height = panel_start(panel, tall, tall_count), panel_height(panel, tall, tall_count)
        place = (group * rows + start) * depth
        source = group * group_step + start * row_step
        for r in range(height):
            for k in range(depth):
                packed[place + k * height + r] = flat[source + r * row_step + depth_offsets[k]]


@kernel
def _multiply_panels(
    packed, place, first_panel, last_panel, tall, tall_count, kernels, first_k, steps, depth,
    b, b_place, offsets, b_step, pixels, pixel_place, gap, c, c_place, c_step, bias, bias_place, width, flags,
):  # fmt: skip
    """Multiply some strips of filters, taps `first_k` to `first_k + steps`, with one tile of pixels."""
    for panel in range(first_panel, last_panel):
        start, height = panel_start(panel, tall, tall_count), panel_height(panel, tall, tall_count)
        simd.multiply_tile(
            kernels[0] if panel < tall_count else kernels[1], 1, steps,
            simd.at(packed, place + start * depth + first_k * height), simd.at(offsets, 0), simd.at(offsets, 0), height,
            simd.at(b, b_place), simd.at(offsets, first_k), b_step, simd.at(pixels, pixel_place), gap,
            simd.at(c, c_place + start * c_step), c_step, simd.at(bias, bias_place + start), packed.dtype.type(1), width, flags,
        )  # fmt: skip


@parallel_kernel
def multiply_direct(
    packed, rows, groups, panel_count, tall, tall_count, panel_block, kernels, tile_width, vectors, tile_block,
    image, image_place, image_step, group_step, count, offsets, pixels, gap, bias, flags, y, y_place, y_image_step, y_channel_step, plane,
):  # fmt: skip
    """Convolve `count` images that lie in one buffer.

    kernels: addresses for (tall, short) strips. pixels: `PixelTable.entries`. A job is `tile_block` tiles of one group of one
    image times `panel_block` strips. image_place, y_place: where the first image and its output plane begin; plane: its number of pixels.
    """
    depth = offsets.size
    tiles = pixels.shape[0] // vectors
    tile_jobs = (tiles + tile_block - 1) // tile_block
    panel_jobs = (panel_count + panel_block - 1) // panel_block
    for job in numba.prange(count * groups * tile_jobs * panel_jobs):
        first_panel = job % panel_jobs * panel_block
        last_panel = min(first_panel + panel_block, panel_count)
        first_tile = job // panel_jobs % tile_jobs * tile_block
        last_tile = min(first_tile + tile_block, tiles)
        group = job // panel_jobs // tile_jobs % groups
        n = job // panel_jobs // tile_jobs // groups
        y_group = y_place + n * y_image_step + group * rows * y_channel_step
        for first_k in range(0, depth, K_BLOCK):
            for tile in range(first_tile, last_tile):
                _multiply_panels(
                    packed, group * rows * depth, first_panel, last_panel, tall, tall_count, kernels,
                    first_k, min(K_BLOCK, depth - first_k), depth,
                    image, image_place + n * image_step + group * group_step, offsets, 0, pixels, tile * vectors * pixels.shape[1], gap,
                    y, y_group + tile * tile_width, y_channel_step, bias, group * rows,
                    min(tile_width, plane - tile * tile_width), flags if first_k == 0 else simd.ADD,
                )  # fmt: skip


@parallel_kernel
def multiply_gathered(
    packed, rows, groups, panel_count, tall, tall_count, kernels, tile_width, buffers, results,
    image, image_place, image_step, group_step, count, offsets, addresses, bias, flags, y, y_place, y_image_step, y_channel_step,
):  # fmt: skip
    """Convolve `count` images whose planes are small; addresses: where output pixel p lies in its image, other arguments as above.

    buffers, results: for each thread K_BLOCK and `rows` lines of `tile_width` elements.
    """
    depth, plane = offsets.size, addresses.size
    tiles = (count * plane + tile_width - 1) // tile_width
    for job in numba.prange(groups * tiles):
        group, tile = job // tiles, job % tiles
        width = min(tile_width, count * plane - tile * tile_width)
        buffer = numba.get_thread_id() * K_BLOCK * tile_width
        result = numba.get_thread_id() * rows * tile_width
        for first_k in range(0, depth, K_BLOCK):
            steps = min(K_BLOCK, depth - first_k)
            for j in range(tile_width):
                pixel = tile * tile_width + min(j, width - 1)
                source = (
                    image_place + pixel // plane * image_step + group * group_step + addresses[pixel % plane]
                )
                for k in range(steps):
                    buffers[buffer + k * tile_width + j] = image[source + offsets[first_k + k]]
            _multiply_panels(
                packed, group * rows * depth, 0, panel_count, tall, tall_count, kernels, first_k, steps, depth,
                buffers, buffer, offsets, tile_width, addresses, 0, 0, results, result, tile_width, bias, group * rows, tile_width,
                flags if first_k == 0 else simd.ADD,
            )  # fmt: skip
        for j in range(width):
            pixel = tile * tile_width + j
            place = y_place + pixel // plane * y_image_step + group * rows * y_channel_step + pixel % plane
            for m in range(rows):
                y[place + m * y_channel_step] = results[result + m * tile_width + j]


@parallel_kernel
def interleave_phases(phases, starts, row_stride, column_stride, dx, first, count):
    """Put the planes that were computed for each phase of dx back into place.

    phases: flat, [image][channel][phase][row][column]; starts: where each phase begins in a channel, and the channel's length.
    """
    channels, height, width = dx.shape[1:]
    channel_step = starts[-1]
    for job in numba.prange(count * channels):
        plane = dx[first + job // channels, job % channels]
        for row in range(height):
            for b in range(min(column_stride, width)):
                phase_width = (width - b + column_stride - 1) // column_stride
                start = (
                    job * channel_step
                    + starts[row % row_stride * column_stride + b]
                    + row // row_stride * phase_width
                )
                for j in range(phase_width):
                    plane[row, j * column_stride + b] = phases[start + j]
