"""ReLU6 (Krizhevsky 2010, as MobileNets use it): y = min(max(x, 0), 6), element by element; may work in place.

dx = dy where 0 < x < 6, else 0
"""

from __future__ import annotations

import numba

from caffetools.engine.cpu.jit import parallel_kernel
from caffetools.parts.elementwise import ElementwiseLayer

LARGEST = 6


class ReLU6Layer(ElementwiseLayer):
    reads = ()

    def apply(self, x, y):
        relu6_forward(x, y)

    def gradient(self, x, y, dy, dx):
        relu6_backward(y, dy, dx)


@parallel_kernel
def relu6_forward(x, y):
    zero, largest = x.dtype.type(0), x.dtype.type(LARGEST)
    for i in numba.prange(x.size):
        v = x[i]
        # The comparisons are written so that a NaN goes through unchanged.
        y[i] = zero if v < zero else largest if v > largest else v


@parallel_kernel
def relu6_backward(y, dy, dx):
    zero, largest = y.dtype.type(0), y.dtype.type(LARGEST)
    for i in numba.prange(y.size):
        dx[i] = dy[i] if zero < y[i] < largest else zero
