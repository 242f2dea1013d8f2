"""SmoothL1Loss (Girshick 2015, Fast R-CNN): loss = sum w_out f(w_in (a - b)) / N, with s = sigma^2 and

    f(d) = s d^2 / 2        where |d| < 1 / s,   |d| - 1 / (2 s)   elsewhere

    da = loss_weight w_in w_out f'(w_in (a - b)) / N,   db = -da

Bottoms: a and b of one shape with N items, then, if given, the weights w_in and w_out of that shape (1 without them).
"""

from __future__ import annotations

import numpy as np

from caffetools.engine.cpu.jit import kernel
from caffetools.engine.cpu.sums import total
from caffetools.glog import check_eq, check_gt
from caffetools.layer import LossLayer

#: Losses that are computed before they are added up.
BLOCK = 256


class SmoothL1LossLayer(LossLayer):
    exact_bottoms = None
    min_bottoms = 2
    max_bottoms = 4
    backward_reads = ("bottom[2]", "bottom[3]")

    def setup(self, bottom, top):
        sigma = self.param.smooth_l1_loss_param.sigma
        check_gt(sigma, 0, "sigma > 0", f"(layer '{self.name}')")
        self.sigma2 = self.dtype.type(sigma * sigma)

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        for i, blob in enumerate(bottom[1:], 1):
            words = f"all bottoms must have one shape (layer '{self.name}')"
            check_eq(bottom[0].shape, blob.shape, f"bottom[0]->shape() == bottom[{i}]->shape()", words)
        self.items = max(1, bottom[0].shape[0] if bottom[0].shape else 1)
        self.difference = np.empty(bottom[0].count, self.dtype)
        self.ones = np.ones(bottom[0].count if len(bottom) < 4 else 0, self.dtype)

    def allow_force_backward(self, bottom_index):
        return bottom_index < 2

    def _weights(self, bottom):
        given = [blob.flat_data for blob in bottom[2:]]
        return [*given, *[self.ones] * (2 - len(given))]

    def forward(self, bottom, top):
        inside, outside = self._weights(bottom)
        a, b = bottom[0].flat_data, bottom[1].flat_data
        total = smooth_l1(a, b, inside, outside, self.sigma2, self.difference)
        top[0].flat_data[0] = total / self.items

    def backward(self, top, propagate_down, bottom):
        words = f"SmoothL1Loss cannot backpropagate to its weights (layer '{self.name}')"
        check_eq(any(propagate_down[2:]), False, "!propagate_down[2] && !propagate_down[3]", words)
        inside, outside = self._weights(bottom)
        weight = top[0].flat_diff[0] / self.dtype.type(self.items)
        for blob, wanted, signed in zip(bottom, propagate_down, (weight, -weight), strict=False):
            if wanted:
                smooth_l1_backward(self.difference, inside, outside, self.sigma2, signed, blob.flat_diff)


@kernel
def smooth_l1(a, b, inside, outside, sigma2, difference):
    """Write w_in (a - b), and return the sum of the losses."""
    half = a.dtype.type(0.5)
    sum_of_blocks, losses = 0.0, np.empty(BLOCK, a.dtype)
    for first in range(0, a.size, BLOCK):
        last = min(first + BLOCK, a.size)
        np.subtract(a[first:last], b[first:last], difference[first:last])
        ds, loss, w_in, w_out = difference[first:last], losses[: last - first], inside[first:last], outside[first:last]
        for i in range(ds.size):
            d = w_in[i] * ds[i]
            ds[i] = d
            loss[i] = w_out[i] * (half * sigma2 * d * d if abs(d) * sigma2 < 1 else abs(d) - half / sigma2)
        sum_of_blocks += total(loss)
    return sum_of_blocks


@kernel
def smooth_l1_backward(difference, inside, outside, sigma2, weight, dx):
    one = dx.dtype.type(1)
    for i in range(dx.size):
        d = difference[i]
        # A NaN is its own slope.
        slope = sigma2 * d if abs(d) * sigma2 < 1 else one if d > 0 else -one if d < 0 else d
        dx[i] = weight * inside[i] * outside[i] * slope
