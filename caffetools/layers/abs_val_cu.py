"""AbsVal on the GPU; the mathematics is in `abs_val`."""

from __future__ import annotations

from numba import cuda

from caffetools.engine.gpu.launch import cuda_kernel, launch
from caffetools.parts.elementwise_cu import Elementwise


def apply(layer, x, y):
    launch(abs_val_forward, x.size, x, y)


def gradient(layer, x, y, dy, dx):
    launch(abs_val_backward, x.size, x, dy, dx)


twin = Elementwise(apply, gradient)
reshape, forward, backward = twin.reshape, twin.forward, twin.backward


@cuda_kernel
def abs_val_forward(x, y):
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        y[i] = abs(x[i])


@cuda_kernel
def abs_val_backward(x, dy, dx):
    zero = x.dtype.type(0)
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        v = x[i]
        # The sign as a factor, so that a NaN goes through: x is its own sign where it is none.
        dx[i] = dy[i] if v > zero else -dy[i] if v < zero else dy[i] * v
