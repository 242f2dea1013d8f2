"""Split: every top is the bottom, seen again; the gradients of the tops are summed.

The net inserts these layers itself, wherever a blob has more than one consumer.
"""

from __future__ import annotations

import numba
import numpy as np

from caffetools.engine.cpu.jit import parallel_kernel
from caffetools.layer import Layer


class SplitLayer(Layer):
    exact_bottoms = 1
    min_tops = 1

    def reshape(self, bottom, top):
        for blob in top:
            blob.reshape_like(bottom[0])
            blob.share_data(bottom[0])

    def forward(self, bottom, top):
        # Once more: the layer below may have moved its top to other storage, as a data layer does with its
        # batches.
        for blob in top:
            if not blob.shares_data_with(bottom[0]):
                blob.share_data(bottom[0])

    def backward(self, top, propagate_down, bottom):
        if not propagate_down[0]:
            return
        dx = bottom[0].flat_diff
        if len(top) == 1:
            np.copyto(dx, top[0].flat_diff)
            return
        add(top[0].flat_diff, top[1].flat_diff, dx)
        for blob in top[2:]:
            add(dx, blob.flat_diff, dx)


@parallel_kernel
def add(a, b, y):
    for i in numba.prange(y.size):
        y[i] = a[i] + b[i]
