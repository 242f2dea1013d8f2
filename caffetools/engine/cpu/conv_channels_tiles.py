"""The kernels of convolution with output channels as lanes; see `conv_channels`."""

from __future__ import annotations

import numba

from caffetools.engine.cpu import simd
from caffetools.engine.cpu.conv_channels_image import turn_lines
from caffetools.engine.cpu.conv_filters import turn_filters
from caffetools.engine.cpu.finish import finish_rows
from caffetools.engine.cpu.jit import kernel, parallel_kernel
from caffetools.engine.cpu.panels import panel_kernel, panel_start
from caffetools.engine.cpu.tiles import ADD, multiply_tile
from caffetools.engine.cpu.turn import move, turn

#: Steps of the common axis whose filters stay in the first-level cache.
K_BLOCK = 256
#: What the kernel knows of a phase: after five numbers of its panels the lines that they cut; where its pixels and
#: its runs begin in the tables, its runs, their length, and where its filters begin; where its limits begin, rows
#: that it has in all images together, whether each line has limits of its own and whether some are empty; its place
#: among the phases; its rows and columns in a block.
(
    LINES, PLACE, FIRST_RUN, RUNS, LENGTH, DEPTH, LIMIT, ALL_ROWS, BY_ROWS, EMPTY, ROW_PHASE, COLUMN_PHASE, HIGH,
    ACROSS,
) = range(5, 19)  # fmt: skip


@parallel_kernel
def pack_filters(copiers, lanes, w, transposed, sizes, cuts, order, taps, packed):
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
def multiply(
    copiers, x, images, packed, bias, y, first_channel, part, cuts, sizes, depth, stride, phases, tables, frame, steps,
    own, finish,
):  # fmt: skip
    """Convolve some images.

    x: the images; images: those of `part`, (first, count), turned, unless each block turns what it sees of x
    itself. first_channel: the one of y that gets the first result. cuts: (blocks of an image, images of a block, rows
    of a block). sizes: (groups, strips, vectors of a strip, lanes, rows, channels of a group). depth: steps of the
    common axis. phases: the fields of each. tables: (places of pixels, starts of runs, limits of runs). frame:
    `TurnedLayout.frame`. steps: elements between two images and between two rows of a phase; turned rows that a block
    sees; elements that it turns, or 0. own: `thread_scratch` of a block's sums, twice, a bias and turned images.
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
                channel = (first_image + n + i) * y.shape[1] + first_channel + group * rows + row
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
