"""ELU (Clevert et al. 2015): y = x where x > 0, alpha (e^x - 1) elsewhere; may work in place.

    dx = dy              where x > 0
    dx = dy (y + alpha)  elsewhere

In place the sign of y stands for the sign of x, which holds for alpha >= 0; otherwise a copy of x is kept.
"""

from __future__ import annotations

import numba

from caffetools.engine.cpu.exponential import expm1
from caffetools.engine.cpu.jit import parallel_kernel
from caffetools.parts.elementwise import ElementwiseLayer


class ELULayer(ElementwiseLayer):
    def setup(self, bottom, top):
        self.alpha = self.dtype.type(self.param.elu_param.alpha)
        self.needs_input = self.alpha < 0

    def apply(self, x, y):
        elu_forward(x, self.alpha, y)

    def gradient(self, x, y, dy, dx):
        elu_backward(x if self.needs_input else y, y, dy, self.alpha, dx)


@parallel_kernel
def elu_forward(x, alpha, y):
    zero = x.dtype.type(0)
    for i in numba.prange(x.size):
        v = x[i]
        y[i] = v if v > zero else alpha * expm1(v)


@parallel_kernel
def elu_backward(x, y, dy, alpha, dx):
    zero = x.dtype.type(0)
    for i in numba.prange(x.size):
        dx[i] = dy[i] if x[i] > zero else dy[i] * (y[i] + alpha)
