"""TanH: y = tanh x, element by element; may work in place.

dx = dy (1 - y^2)
"""

from __future__ import annotations

import numba

from caffetools.engine.cpu.exponential import tanh
from caffetools.engine.cpu.jit import parallel_kernel
from caffetools.parts.elementwise import ElementwiseLayer


class TanHLayer(ElementwiseLayer):
    def apply(self, x, y):
        tanh_forward(x, y)

    def gradient(self, x, y, dy, dx):
        tanh_backward(y, dy, dx)


@parallel_kernel
def tanh_forward(x, y):
    for i in numba.prange(x.size):
        y[i] = tanh(x[i])


@parallel_kernel
def tanh_backward(y, dy, dx):
    one = y.dtype.type(1)
    for i in numba.prange(y.size):
        dx[i] = dy[i] * (one - y[i] * y[i])
