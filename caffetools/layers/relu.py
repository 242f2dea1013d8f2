"""ReLU: y = max(x, 0) + negative_slope * min(x, 0), element by element; may work in place.

    dx = dy              where x > 0
    dx = negative_slope * dy   elsewhere

The sign of y stands for the sign of x, which holds for slopes >= 0; otherwise x is needed, in place a copy of it.
"""

from __future__ import annotations

import numba

from caffetools.engine.cpu.jit import parallel_kernel
from caffetools.parts.elementwise import ElementwiseLayer


class ReLULayer(ElementwiseLayer):
    def setup(self, bottom, top):
        self.negative_slope = self.dtype.type(self.param.relu_param.negative_slope)
        self.needs_input = self.negative_slope < 0

    def apply(self, x, y):
        relu_forward(x, self.negative_slope, y)

    def gradient(self, x, y, dy, dx):
        relu_backward(x if self.needs_input else y, dy, self.negative_slope, dx)


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
