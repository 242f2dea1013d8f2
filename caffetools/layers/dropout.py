"""Dropout (Srivastava et al. 2014): y = x m / (1 - p), where m is 0 with probability p = dropout_ratio, else
1.

    dx = dy m / (1 - p)

A mask is drawn anew in every forward pass of the TRAIN phase; in the TEST phase y = x. May work in place. The
mask is not stored: it is a function of a key and of the position in the stream, and is drawn again in the
backward pass.
"""

from __future__ import annotations

import numba
import numpy as np

from caffetools.engine.cpu.jit import parallel_kernel
from caffetools.engine.cpu.rng import random_uniform
from caffetools.glog import check
from caffetools.layer import TRAIN, Layer


class DropoutLayer(Layer):
    exact_bottoms = 1
    exact_tops = 1
    backward_reads = ()

    def setup(self, bottom, top):
        ratio = self.param.dropout_param.dropout_ratio
        check(
            0 <= ratio < 1,
            "threshold_ >= 0 && threshold_ < 1",
            f"dropout_ratio is {ratio:g} (layer '{self.name}')",
        )
        self.ratio = np.float32(ratio)
        self.scale = self.dtype.type(1 / (1 - ratio))
        self.key = self.context.random.key()
        self.mask_start = self.next_start = np.uint64(0)

    def reshape(self, bottom, top):
        top[0].reshape_like(bottom[0])

    def forward(self, bottom, top):
        x, y = bottom[0].flat_data, top[0].flat_data
        if self.phase == TRAIN:
            self.mask_start = self.next_start
            self.next_start = np.uint64(int(self.mask_start) + x.size)
            mask_and_scale(x, self.key, self.mask_start, self.ratio, self.scale, y)
        elif x is not y:
            np.copyto(y, x)

    def backward(self, top, propagate_down, bottom):
        if not propagate_down[0]:
            return
        dy, dx = top[0].flat_diff, bottom[0].flat_diff
        if self.phase == TRAIN:
            mask_and_scale(dy, self.key, self.mask_start, self.ratio, self.scale, dx)
        elif dy is not dx:
            np.copyto(dx, dy)

    def get_state(self):
        return {"key": int(self.key), "next_start": int(self.next_start)}

    def set_state(self, state):
        self.key, self.next_start = np.uint64(state["key"]), np.uint64(state["next_start"])


@parallel_kernel
def mask_and_scale(x, key, start, ratio, scale, y):
    zero = x.dtype.type(0)
    for i in numba.prange(x.size):
        # A product in both cases, so that a NaN goes through.
        y[i] = x[i] * (scale if random_uniform(key, start + np.uint64(i)) >= ratio else zero)
