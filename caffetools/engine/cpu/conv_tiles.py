"""The product behind every convolution: filters times the pixels that their taps see, without unrolling
images to columns.

    y[n, m, p] = bias[m] + sum_k w[m, k] image[n][taps[k] + address[p]]

Filters have been packed into panels. Planes wide enough are read where they lie (`multiply_direct`);
small ones would leave most lanes empty, so there the pixels of all images are numbered through and gathered
tile by tile (`multiply_gathered`).

Arguments that go together are tuples:

    filters  (packed, depth, rows of a group)
    images   (flat buffer, place of the first image, distance of images, of groups, number of images)
    target   (flat y, place of the first plane, distance of images, of channels)
    result   (bias, flags of the micro-kernels)
    finish   what `finish.arguments_of` returns
"""

from __future__ import annotations

import numba

from caffetools.engine.cpu import simd
from caffetools.engine.cpu.finish import finish_rows, finish_value
from caffetools.engine.cpu.jit import kernel, parallel_kernel
from caffetools.engine.cpu.panels import panel_height, panel_kernel, panel_start
from caffetools.engine.cpu.tiles import ADD, multiply_tile

#: Taps in one block: what they see of a tile's pixels stays in the first-level cache.
K_BLOCK = 384
#: Filters of so many elements, in no cache, are packed in the order in which they lie where rows are no further apart.
NEAR, LARGE = 16, 1 << 18


@parallel_kernel
def pack_filters(w, row_step, depth_offsets, rows, groups, panels, packed):
    """Copy element w[group][m * row_step + depth_offsets[k]] to [group][panel][k][row of the panel]."""
    depth, panel_count = depth_offsets.size, panels[0]
    group_step = w.size // groups
    for job in numba.prange(groups * panel_count):
        group, panel = job // panel_count, job % panel_count
        start, height = panel_start(panels, panel), panel_height(panels, panel)
        place, source = (group * rows + start) * depth, group * group_step + start * row_step
        if row_step < NEAR and group_step >= LARGE:
            for k in range(depth):
                for r in range(height):
                    packed[place + k * height + r] = w[source + r * row_step + depth_offsets[k]]
        else:
            for r in range(height):
                for k in range(depth):
                    packed[place + k * height + r] = w[source + r * row_step + depth_offsets[k]]


@parallel_kernel
def multiply_direct(
    filters, groups, panels, tiling, images, taps, pixels, gap, target, plane, result, finish
):
    """Convolve images whose pixels are read where they lie.

    tiling: (pixels of a tile, vectors of a tile, tiles of a job, panels of a job). pixels:
    `PixelTable.entries`.
    """
    packed, depth, rows = filters
    tile_width, vectors, tile_block, panel_block = tiling
    image, image_place, image_step, group_step, count = images
    y, y_place, y_image_step, y_channel_step = target
    bias, flags = result
    tiles = pixels.shape[0] // vectors
    tile_jobs, panel_jobs = (
        (tiles + tile_block - 1) // tile_block,
        (panels[0] + panel_block - 1) // panel_block,
    )
    for job in numba.prange(count * groups * tile_jobs * panel_jobs):
        first_panel = job % panel_jobs * panel_block
        panel_range = first_panel, min(first_panel + panel_block, panels[0])
        first_tile = job // panel_jobs % tile_jobs * tile_block
        last_tile = min(first_tile + tile_block, tiles)
        n, group = divmod(job // (panel_jobs * tile_jobs), groups)
        source = simd.at(image, image_place + n * image_step + group * group_step)
        plane_place = y_place + n * y_image_step + group * rows * y_channel_step
        for first_k in range(0, depth, K_BLOCK):
            steps = min(K_BLOCK, depth - first_k)
            now = flags if first_k == 0 else ADD
            for tile in range(first_tile, last_tile):
                width = min(tile_width, plane - tile * tile_width)
                seen = simd.at(pixels, tile * vectors * pixels.shape[1])
                for panel in range(panel_range[0], panel_range[1]):
                    start, height = panel_start(panels, panel), panel_height(panels, panel)
                    a = simd.at(packed, (group * rows + start) * depth + first_k * height)
                    c = simd.at(y, plane_place + start * y_channel_step + tile * tile_width)
                    multiply_tile(
                        panel_kernel(panels, panel),
                        (steps, a, height, source, simd.at(taps, first_k), seen, gap),
                        (c, y_channel_step, simd.at(bias, group * rows + start), y.dtype.type(1), width, now),
                    )
                    if first_k + steps == depth:
                        place = plane_place + start * y_channel_step + tile * tile_width
                        finish_rows(finish, group * rows + start, y, place, y_channel_step, height, width)


@parallel_kernel
def multiply_gathered(
    filters, groups, panels, tile_width, images, taps, addresses, gathered, results, target, result, finish
):
    """Convolve images whose planes are small.

    addresses: where output pixel p lies in its image. gathered, results: `thread_scratch` of K_BLOCK and of
    `rows` lines of `tile_width` elements.
    """
    _, depth, rows = filters
    image, image_place, image_step, group_step, count = images
    y, y_place, y_image_step, y_channel_step = target
    plane = addresses.size
    tiles = (count * plane + tile_width - 1) // tile_width
    for job in numba.prange(groups * tiles):
        group, tile = job // tiles, job % tiles
        width = min(tile_width, count * plane - tile * tile_width)
        place, c = numba.get_thread_id() * gathered[1], numba.get_thread_id() * results[1]
        for first_k in range(0, depth, K_BLOCK):
            steps = min(K_BLOCK, depth - first_k)
            for j in range(tile_width):
                n, pixel = divmod(tile * tile_width + min(j, width - 1), plane)
                source = image_place + n * image_step + group * group_step + addresses[pixel]
                for k in range(steps):
                    gathered[0][place + k * tile_width + j] = image[source + taps[first_k + k]]
            _multiply_panels(
                filters, group, panels, first_k, steps, gathered[0], place, results[0], c, tile_width, result
            )
        for j in range(width):
            n, pixel = divmod(tile * tile_width + j, plane)
            first = y_place + n * y_image_step + group * rows * y_channel_step + pixel
            for m in range(rows):
                place, value = first + m * y_channel_step, results[0][c + m * tile_width + j]
                y[place] = finish_value(finish, group * rows + m, value, place)


@kernel
def _multiply_panels(filters, group, panels, first_k, steps, gathered, place, results, c, tile_width, result):
    """Multiply all panels of a group with one gathered tile."""
    packed, depth, rows = filters
    bias, flags = result
    for panel in range(panels[0]):
        start, height = panel_start(panels, panel), panel_height(panels, panel)
        a = simd.at(packed, (group * rows + start) * depth + first_k * height)
        multiply_tile(
            panel_kernel(panels, panel),
            (steps, a, height, simd.at(gathered, place), tile_width),
            (simd.at(results, c + start * tile_width), tile_width, simd.at(bias, group * rows + start),
             results.dtype.type(1), tile_width, flags if first_k == 0 else ADD),
        )  # fmt: skip


@parallel_kernel
def interleave_phases(phases, starts, row_stride, column_stride, dx, images, channel_range):
    """Put the planes that were computed for each phase of dx back into place.

    phases: flat, [image][channel][phase][row][column]; starts: where each phase begins in a channel, and the
    channel's length at the end. images, channel_range: (first, number) of those of dx that are made of them.
    """
    height, width = dx.shape[2:]
    (first, count), (first_channel, channels) = images, channel_range
    channel_step = starts[-1]
    for job in numba.prange(count * channels):
        plane = dx[first + job // channels, first_channel + job % channels]
        for row in range(height):
            for b in range(min(column_stride, width)):
                phase_width = (width - b + column_stride - 1) // column_stride
                phase = starts[row % row_stride * column_stride + b]
                start = job * channel_step + phase + row // row_stride * phase_width
                for j in range(phase_width):
                    plane[row, j * column_stride + b] = phases[start + j]
