"""ReLU: y = max(x, 0) + negative_slope * min(x, 0), element by element; may work in place.

    dx = dy              where x > 0
    dx = negative_slope * dy   elsewhere

In place the sign of y stands for the sign of x, which holds for every slope >= 0, as in the original.
"""

from __future__ import annotations

import numba

from caffetools.engine.cpu.jit import parallel_kernel
from caffetools.layer import Layer


class ReLULayer(Layer):
    exact_bottoms = 1
    exact_tops = 1

    def setup(self, bottom, top):
        self.negative_slope = self.dtype.type(self.param.relu_param.negative_slope)

    def reshape(self, bottom, top):
        top[0].reshape_like(bottom[0])

    def forward(self, bottom, top):
        relu_forward(bottom[0].flat_data, self.negative_slope, top[0].flat_data)

    def backward(self, top, propagate_down, bottom):
        if propagate_down[0]:
            relu_backward(bottom[0].flat_data, top[0].flat_diff, self.negative_slope, bottom[0].flat_diff)


@parallel_kernel
def relu_forward(x, slope, y):
    zero = x.dtype.type(0)
    for i in numba.prange(x.size):
        v = x[i]
        # The comparison is written so that a NaN goes through unchanged.
        y[i] = slope * v if v < zero else v


@parallel_kernel
def relu_backward(x, dy, slope, dx):
    zero = x.dtype.type(0)
    for i in numba.prange(x.size):
        dx[i] = dy[i] if x[i] > zero else slope * dy[i]
