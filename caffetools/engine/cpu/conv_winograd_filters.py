"""Transforming the filters of Winograd's convolution."""

from __future__ import annotations

import numba

from caffetools.engine.cpu import simd
from caffetools.engine.cpu.conv_filters import turn_filters
from caffetools.engine.cpu.conv_winograd_cuts import POINTS
from caffetools.engine.cpu.jit import kernel, parallel_kernel
from caffetools.engine.cpu.winograd import EDGE, TAPS, transform


@parallel_kernel
def transform_all_filters(turner, address, w, transposed, strips, sizes, taps, filters, filter_point):
    """Transform filters to [group][strip][point][k][row of the strip], points `filter_point` apart.

    taps: `thread_scratch` for `transform_filters`.
    """
    groups, depth, _, lanes, vectors = sizes
    blocks = (depth + lanes - 1) // lanes
    for job in numba.prange(groups * strips * blocks):
        first, part = job % blocks * lanes, job // blocks
        transform_filters(
            turner, address, w, transposed, part // strips, part % strips * vectors * lanes,
            (first, min(first + lanes, depth)), sizes, taps[0], numba.get_thread_id() * taps[1], filters,
            part * POINTS * filter_point, filter_point,
        )  # fmt: skip


@kernel
def transform_filters(
    turner, address, w, transposed, group, row, k_range, sizes, memory, taps, filters, place, filter_point
):
    """Transform a strip of filters, from `row` of a group on and for k in the range (first, end), to
    [point][k][row of the strip], from element `place` of `filters` on.

    memory, taps: room for the filters of one vector of rows and as many k, [k][tap][row], and one square.
    """
    _, depth, rows, lanes, vectors = sizes
    size, strip = TAPS * TAPS, vectors * lanes
    # The transposed convolution sees the filters from behind.
    last, step = ((size - 1) * lanes, -lanes) if transposed else (0, lanes)
    for first in range(k_range[0], k_range[1], lanes):
        count = min(lanes, k_range[1] - first)
        for v in range(vectors):
            m = row + v * lanes
            turn_filters(turner, lanes, w, transposed, (depth, rows, size), group, m, first, count, memory, taps)
            out = simd.at(filters, place + first * strip + v * lanes)
            transform(
                address,
                (count, simd.at(memory, taps + last), size * lanes, TAPS * step, step),
                (out, strip, EDGE * filter_point, filter_point, out),
            )
