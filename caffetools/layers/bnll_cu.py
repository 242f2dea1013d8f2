"""BNLL on the GPU; the mathematics is in `bnll`."""

from __future__ import annotations

import math

from numba import cuda

from caffetools.engine.gpu.exponential import sigmoid
from caffetools.engine.gpu.launch import cuda_kernel, launch
from caffetools.parts.elementwise_cu import Elementwise


def apply(layer, x, y):
    launch(bnll_forward, x.size, x, y)


def gradient(layer, x, y, dy, dx):
    launch(bnll_backward, x.size, x, dy, dx)


twin = Elementwise(apply, gradient)
reshape, forward, backward = twin.reshape, twin.forward, twin.backward


@cuda_kernel
def bnll_forward(x, y):
    zero = x.dtype.type(0)
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        v = x[i]
        # The larger part apart, so that e^v does not overflow; a NaN comes from either.
        y[i] = (zero if v < zero else v) + math.log1p(math.exp(-abs(v)))


@cuda_kernel
def bnll_backward(x, dy, dx):
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        dx[i] = dy[i] * sigmoid(x[i])
