"""TanH on the GPU; the mathematics is in `tanh`."""

from __future__ import annotations

import math

from numba import cuda

from caffetools.engine.gpu.launch import cuda_kernel, launch
from caffetools.parts.elementwise_cu import Elementwise


def apply(layer, x, y):
    launch(tanh_forward, x.size, x, y)


def gradient(layer, x, y, dy, dx):
    launch(tanh_backward, y.size, y, dy, dx)


twin = Elementwise(apply, gradient)
reshape, forward, backward = twin.reshape, twin.forward, twin.backward


@cuda_kernel
def tanh_forward(x, y):
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        y[i] = math.tanh(x[i])


@cuda_kernel
def tanh_backward(y, dy, dx):
    one = y.dtype.type(1)
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        dx[i] = dy[i] * (one - y[i] * y[i])
