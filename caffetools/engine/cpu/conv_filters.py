"""Filters with their outputs innermost, as kernels with channels in their lanes want them."""

from __future__ import annotations

from caffetools.engine.cpu import simd
from caffetools.engine.cpu.jit import kernel
from caffetools.engine.cpu.turn import turn


@kernel
def turn_filters(turner, lanes, w, transposed, sizes, group, row, first, count, out, place):
    """Turn the filters of one vector of rows, from `row` of a group on, and `count` k from `first` on, to
    [k][tap][row of the vector].

    sizes: (depth, rows, taps). The filter of row m and k is w[m, k], or w[k, m] if `transposed`. What is
    beyond the last row is arbitrary. out needs room for one square beyond its end.
    """
    depth, rows, taps = sizes
    m = min(row, rows - 1)
    used = max(0, min(lanes, rows - row))
    if transposed:
        # Whole squares are turned faster than parts of them: where w goes on, what follows comes along.
        whole = (taps + lanes - 1) // lanes * lanes
        for k in range(count):
            source = ((group * depth + first + k) * rows + m) * taps
            columns = whole if source + (lanes - 1) * taps + whole <= w.size else taps
            target = simd.at(out, place + k * taps * lanes), lanes, lanes
            turn(turner, (simd.at(w, source), taps, used, columns), target)
    else:
        source = ((group * rows + m) * depth + first) * taps
        turn(turner, (simd.at(w, source), depth * taps, used, count * taps), (simd.at(out, place), lanes, lanes))
