"""ReLU on the GPU; the mathematics is in `relu`."""

from __future__ import annotations

from numba import cuda

from caffetools.engine.gpu.launch import cuda_kernel, launch
from caffetools.parts.elementwise_cu import Elementwise


def apply(layer, x, y):
    launch(relu_forward, x.size, x, layer.negative_slope, y)


def gradient(layer, x, y, dy, dx):
    launch(relu_backward, x.size, x if layer.needs_input else y, dy, layer.negative_slope, dx)


twin = Elementwise(apply, gradient)
reshape, forward, backward = twin.reshape, twin.forward, twin.backward


@cuda_kernel
def relu_forward(x, slope, y):
    zero = x.dtype.type(0)
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        v = x[i]
        # The comparison is written so that a NaN goes through unchanged.
        y[i] = slope * v if v < zero else v


@cuda_kernel
def relu_backward(x, dy, slope, dx):
    zero = x.dtype.type(0)
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        dx[i] = dy[i] if x[i] > zero else slope * dy[i]
