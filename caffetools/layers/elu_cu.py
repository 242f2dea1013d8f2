"""ELU on the GPU; the mathematics is in `elu`."""

from __future__ import annotations

import math

from numba import cuda

from caffetools.engine.gpu.launch import cuda_kernel, launch
from caffetools.parts.elementwise_cu import Elementwise


def apply(layer, x, y):
    launch(elu_forward, x.size, x, layer.alpha, y)


def gradient(layer, x, y, dy, dx):
    launch(elu_backward, x.size, x if layer.needs_input else y, y, dy, layer.alpha, dx)


twin = Elementwise(apply, gradient)
reshape, forward, backward = twin.reshape, twin.forward, twin.backward


@cuda_kernel
def elu_forward(x, alpha, y):
    zero = x.dtype.type(0)
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        v = x[i]
        y[i] = v if v > zero else alpha * math.expm1(v)


@cuda_kernel
def elu_backward(x, y, dy, alpha, dx):
    zero = x.dtype.type(0)
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        dx[i] = dy[i] if x[i] > zero else dy[i] * (y[i] + alpha)
