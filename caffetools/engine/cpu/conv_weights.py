"""The gradient of a convolution's filters.

    dw[m, k] += sum_n sum_p dy[n, m, p] image[n][offset[k] + address[p]]

The output channels are the lanes, so dy is turned to [pixel][channel]; the image is the broadcast operand, and each row of a
tile is one tap, which walks the image's rows from its own first pixel. Images are summed in fixed chunks, and the chunks in
order, so that the sum does not depend on the number of threads.
"""

from __future__ import annotations

import numba

from caffetools.engine.cpu import simd
from caffetools.engine.cpu.jit import parallel_kernel
from caffetools.engine.cpu.panels import panel_start

#: Pixels whose turned gradients stay in the first-level cache while all taps pass over them.
PIXEL_BLOCK = 256


@parallel_kernel
def turn_outputs(dy, first, count, groups, block_count, tile_width, turned):
    """Copy images of dy to [group][block of channels][image][pixel][channel], zero beyond the group's channels."""
    channels, plane = dy.shape[1] // groups, dy.shape[2] * dy.shape[3]
    flat = dy.reshape(-1)
    zero = dy.dtype.type(0)
    for job in numba.prange(count * groups * block_count):
        block, group, n = job % block_count, job // block_count % groups, job // block_count // groups
        width = min(tile_width, channels - block * tile_width)
        source = ((first + n) * groups + group) * channels * plane + block * tile_width * plane
        place = ((group * block_count + block) * count + n) * plane * tile_width
        for p in range(plane):
            for m in range(width):
                turned[place + m] = flat[source + m * plane + p]
            for m in range(width, tile_width):
                turned[place + m] = zero
            place += tile_width


@parallel_kernel
def multiply_taps(
    image, image_place, group_step, offsets, row_starts, rows_per_image, row_length, turned, images, chunks,
    groups, block_count, tile_width, panel_count, tall, tall_count, panel_block, kernels, add, partial,
):  # fmt: skip
    """Sum over the images of each chunk into partial, [chunk][group][block][tap][channel].

    row_starts: where each row of each image begins for tap 0. add: 0 for the first images, simd.ADD for further ones.
    """
    taps = offsets.size
    plane = rows_per_image * row_length
    rows_block = max(1, PIXEL_BLOCK // row_length)
    panel_jobs = (panel_count + panel_block - 1) // panel_block
    for job in numba.prange(chunks * groups * block_count * panel_jobs):
        panel_job = job % panel_jobs
        block = job // panel_jobs % block_count
        group = job // panel_jobs // block_count % groups
        chunk = job // panel_jobs // block_count // groups
        first_row, last_row = (
            chunk * images // chunks * rows_per_image,
            (chunk + 1) * images // chunks * rows_per_image,
        )
        source = (group * block_count + block) * images * plane
        result = ((chunk * groups + group) * block_count + block) * taps * tile_width
        for row in range(first_row, last_row, rows_block):
            flags = simd.ADD if row > first_row else add
            for panel in range(panel_job * panel_block, min((panel_job + 1) * panel_block, panel_count)):
                tap = panel_start(panel, tall, tall_count)
                simd.multiply_tile(
                    kernels[0] if panel < tall_count else kernels[1], min(rows_block, last_row - row), row_length,
                    simd.at(image, image_place + group * group_step), simd.at(offsets, tap), simd.at(row_starts, row), 0,
                    simd.at(turned, (source + row * row_length) * tile_width), simd.at(offsets, 0), tile_width, simd.at(offsets, 0), 0,
                    simd.at(partial, result + tap * tile_width), tile_width, simd.at(partial, 0), partial.dtype.type(1), tile_width,
                    flags,
                )  # fmt: skip


@parallel_kernel
def add_chunks(partial, chunks, groups, block_count, tile_width, dw):
    """Add the chunks, in order, to dw (output channel, tap)."""
    channels, taps = dw.shape[0] // groups, dw.shape[1]
    step = groups * block_count * taps * tile_width
    for job in numba.prange(groups * block_count * taps):
        tap, block, group = job % taps, job // taps % block_count, job // taps // block_count
        place = job * tile_width
        for chunk in range(1, chunks):
            for m in range(tile_width):
                partial[place + m] += partial[place + chunk * step + m]
        first = block * tile_width
        for m in range(min(tile_width, channels - first)):
            dw[group * channels + first + m, tap] += partial[place + m]


@parallel_kernel
def add_bias_gradient(dy, db):
    """db[m] += sum of dy[:, m]."""
    images, channels = dy.shape[:2]
    plane = dy.shape[2] * dy.shape[3]
    flat = dy.reshape(-1)
    for m in numba.prange(channels):
        total = dy.dtype.type(0)
        for n in range(images):
            start = (n * channels + m) * plane
            part = dy.dtype.type(0)
            for p in range(start, start + plane):
                part += flat[p]
            total += part
        db[m] += total
