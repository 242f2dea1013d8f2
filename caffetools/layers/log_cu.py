"""Log on the GPU; the mathematics is in `log`."""

from __future__ import annotations

import math

from numba import cuda

from caffetools.engine.gpu.launch import cuda_kernel, launch
from caffetools.parts.elementwise_cu import Elementwise


def setup(layer, bottom, top):
    real = layer.dtype.type
    layer.gpu.settings = real(layer.scale), real(layer.shift), real(layer.base_scale)


def apply(layer, x, y):
    launch(log_forward, x.size, x, *layer.gpu.settings, y)


def gradient(layer, x, y, dy, dx):
    launch(log_backward, x.size, x, dy, *layer.gpu.settings, dx)


twin = Elementwise(apply, gradient)
reshape, forward, backward = twin.reshape, twin.forward, twin.backward


@cuda_kernel
def log_forward(x, scale, shift, base_scale, y):
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        y[i] = base_scale * math.log(scale * x[i] + shift)


@cuda_kernel
def log_backward(x, dy, scale, shift, base_scale, dx):
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        dx[i] = dy[i] * scale * base_scale / (scale * x[i] + shift)
