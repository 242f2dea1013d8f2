"""Exp on the GPU; the mathematics is in `exp`."""

from __future__ import annotations

import math

from numba import cuda

from caffetools.engine.gpu import vector
from caffetools.engine.gpu.launch import cuda_kernel, launch
from caffetools.parts.elementwise_cu import Elementwise


def setup(layer, bottom, top):
    layer.gpu.scale, layer.gpu.shift = layer.dtype.type(layer.scale), layer.dtype.type(layer.shift)


def apply(layer, x, y):
    launch(exp_forward, x.size, x, layer.gpu.scale, layer.gpu.shift, y)


def gradient(layer, x, y, dy, dx):
    launch(vector.multiply, y.size, layer.gpu.scale, y, dy, dx)


twin = Elementwise(apply, gradient)
reshape, forward, backward = twin.reshape, twin.forward, twin.backward


@cuda_kernel
def exp_forward(x, scale, shift, y):
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        y[i] = math.exp(scale * x[i] + shift)
