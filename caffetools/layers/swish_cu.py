"""Swish on the GPU; the mathematics is in `swish`."""

from __future__ import annotations

from numba import cuda

from caffetools.engine.gpu.exponential import sigmoid
from caffetools.engine.gpu.launch import cuda_kernel, launch
from caffetools.parts.elementwise_cu import Elementwise


def apply(layer, x, y):
    launch(swish_forward, x.size, x, layer.beta, y)


def gradient(layer, x, y, dy, dx):
    launch(swish_backward, x.size, x, dy, layer.beta, dx)


twin = Elementwise(apply, gradient)
reshape, forward, backward = twin.reshape, twin.forward, twin.backward


@cuda_kernel
def swish_forward(x, beta, y):
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        y[i] = x[i] * sigmoid(beta * x[i])


@cuda_kernel
def swish_backward(x, dy, beta, dx):
    one = x.dtype.type(1)
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        s = sigmoid(beta * x[i])
        by = beta * x[i] * s
        dx[i] = dy[i] * (by + s * (one - by))
