"""Swish (Ramachandran et al. 2017): y = x s with s = 1 / (1 + e^(-beta x)); may work in place.

    dx = dy (beta y + s (1 - beta y))
"""

from __future__ import annotations

import numba

from caffetools.engine.cpu.exponential import sigmoid
from caffetools.engine.cpu.jit import parallel_kernel
from caffetools.parts.elementwise import ElementwiseLayer


class SwishLayer(ElementwiseLayer):
    needs_input = True

    def setup(self, bottom, top):
        self.beta = self.dtype.type(self.param.swish_param.beta)

    def apply(self, x, y):
        swish_forward(x, self.beta, y)

    def gradient(self, x, y, dy, dx):
        swish_backward(x, dy, self.beta, dx)


@parallel_kernel
def swish_forward(x, beta, y):
    for i in numba.prange(x.size):
        y[i] = x[i] * sigmoid(beta * x[i])


@parallel_kernel
def swish_backward(x, dy, beta, dx):
    one = x.dtype.type(1)
    for i in numba.prange(x.size):
        s = sigmoid(beta * x[i])
        by = beta * x[i] * s
        dx[i] = dy[i] * (by + s * (one - by))
