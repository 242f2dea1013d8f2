"""Clip on the GPU; the mathematics is in `clip`."""

from __future__ import annotations

from numba import cuda

from caffetools.engine.gpu.launch import cuda_kernel, launch
from caffetools.parts.elementwise_cu import Elementwise


def apply(layer, x, y):
    launch(clip_forward, x.size, x, layer.lower, layer.upper, y)


def gradient(layer, x, y, dy, dx):
    launch(clip_backward, x.size, x, dy, layer.lower, layer.upper, dx)


twin = Elementwise(apply, gradient)
reshape, forward, backward = twin.reshape, twin.forward, twin.backward


@cuda_kernel
def clip_forward(x, lower, upper, y):
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        v = x[i]
        # The comparisons are written so that a NaN goes through unchanged.
        y[i] = lower if v < lower else upper if v > upper else v


@cuda_kernel
def clip_backward(x, dy, lower, upper, dx):
    zero = x.dtype.type(0)
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        v = x[i]
        dx[i] = dy[i] if v >= lower and v <= upper else zero
