"""Sigmoid: y = 1 / (1 + e^-x), element by element; may work in place.

dx = dy y (1 - y)
"""

from __future__ import annotations

import numba

from caffetools.engine.cpu.exponential import sigmoid
from caffetools.engine.cpu.jit import parallel_kernel
from caffetools.parts.elementwise import ElementwiseLayer


class SigmoidLayer(ElementwiseLayer):
    def apply(self, x, y):
        sigmoid_forward(x, y)

    def gradient(self, x, y, dy, dx):
        sigmoid_backward(y, dy, dx)


@parallel_kernel
def sigmoid_forward(x, y):
    for i in numba.prange(x.size):
        y[i] = sigmoid(x[i])


@parallel_kernel
def sigmoid_backward(y, dy, dx):
    one = y.dtype.type(1)
    for i in numba.prange(y.size):
        dx[i] = dy[i] * y[i] * (one - y[i])
