"""ReLU6 on the GPU; the mathematics is in `relu6`."""

from __future__ import annotations

from numba import cuda

from caffetools.engine.gpu.launch import cuda_kernel, launch
from caffetools.layers.relu6 import LARGEST
from caffetools.parts.elementwise_cu import Elementwise


def apply(layer, x, y):
    launch(relu6_forward, x.size, x, y)


def gradient(layer, x, y, dy, dx):
    launch(relu6_backward, y.size, y, dy, dx)


twin = Elementwise(apply, gradient)
reshape, forward, backward = twin.reshape, twin.forward, twin.backward


@cuda_kernel
def relu6_forward(x, y):
    zero, largest = x.dtype.type(0), x.dtype.type(LARGEST)
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        v = x[i]
        # The comparisons are written so that a NaN goes through unchanged.
        y[i] = zero if v < zero else largest if v > largest else v


@cuda_kernel
def relu6_backward(y, dy, dx):
    zero, largest = y.dtype.type(0), y.dtype.type(LARGEST)
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        v = y[i]
        dx[i] = dy[i] if v > zero and v < largest else zero
