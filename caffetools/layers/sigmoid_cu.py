"""Sigmoid on the GPU; the mathematics is in `sigmoid`."""

from __future__ import annotations

from numba import cuda

from caffetools.engine.gpu.exponential import sigmoid
from caffetools.engine.gpu.launch import cuda_kernel, launch
from caffetools.parts.elementwise_cu import Elementwise


def apply(layer, x, y):
    launch(sigmoid_forward, x.size, x, y)


def gradient(layer, x, y, dy, dx):
    launch(sigmoid_backward, y.size, y, dy, dx)


twin = Elementwise(apply, gradient)
reshape, forward, backward = twin.reshape, twin.forward, twin.backward


@cuda_kernel
def sigmoid_forward(x, y):
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        y[i] = sigmoid(x[i])


@cuda_kernel
def sigmoid_backward(y, dy, dx):
    one = y.dtype.type(1)
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        dx[i] = dy[i] * y[i] * (one - y[i])
