"""Split: every top is the bottom, seen again; the gradients of the tops are summed.

The net inserts these layers itself, wherever a blob has more than one consumer. The last consumer's gradient is there
first; the others are added to it, in its memory where the net allows that.
"""

from __future__ import annotations

import numba

from caffetools.engine.cpu.jit import parallel_kernel
from caffetools.layer import Layer, Part
from caffetools.parts.places import lies_at

#: Elements that are summed at once, so that partial sums stay in the first-level cache.
CHUNK = 4096


class SplitLayer(Layer):
    exact_bottoms = 1
    min_tops = 1
    backward_reads = ()

    def reshape(self, bottom, top):
        for blob in top:
            blob.reshape_like(bottom[0])
            blob.share_data(bottom[0])

    def diff_parts(self, bottom, top):
        return [Part(top[-1], bottom[0], changes=len(top) > 1)]

    def forward(self, bottom, top):
        # Once more: the layer below may have moved its top to other storage, as a data layer does with its
        # batches.
        for blob in top:
            if not blob.shares_data_with(bottom[0]):
                blob.share_data(bottom[0])

    def backward(self, top, propagate_down, bottom):
        if not propagate_down[0]:
            return
        dx, (last, *others) = bottom[0].flat_diff, [blob.flat_diff for blob in reversed(top)]
        nothing = dx[:0]
        start = nothing if lies_at(last, dx) else last
        if not others and start.size:
            dx[...] = last
        for i in range(0, len(others), 3):
            add_up(start, *(others[i : i + 3] + [nothing, nothing])[:3], dx)
            start = nothing


@parallel_kernel
def add_up(start, a, b, c, y):
    """Add up to three arrays to `start`, or to y itself if that is empty; b and c may be empty."""
    for chunk in numba.prange((y.size + CHUNK - 1) // CHUNK):
        first, last = chunk * CHUNK, min((chunk + 1) * CHUNK, y.size)
        out = y[first:last]
        if start.size > 0:
            other, more = start[first:last], a[first:last]
            for i in range(out.size):
                out[i] = other[i] + more[i]
        else:
            more = a[first:last]
            for i in range(out.size):
                out[i] += more[i]
        if b.size > 0:
            more = b[first:last]
            for i in range(out.size):
                out[i] += more[i]
        if c.size > 0:
            more = c[first:last]
            for i in range(out.size):
                out[i] += more[i]
