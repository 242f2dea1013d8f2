"""Power on the GPU; the mathematics is in `power`."""

from __future__ import annotations

from numba import cuda

from caffetools.engine.gpu import vector
from caffetools.engine.gpu.launch import cuda_kernel, launch
from caffetools.parts.elementwise_cu import Elementwise


def setup(layer, bottom, top):
    real, gpu = layer.dtype.type, layer.gpu
    gpu.power, gpu.scale, gpu.shift = real(layer.power), real(layer.scale), real(layer.shift)
    gpu.slope = real(layer.power * layer.scale)
    gpu.constant = gpu.shift**gpu.power if layer.is_constant else None


def apply(layer, x, y):
    gpu = layer.gpu
    if layer.is_constant:
        launch(vector.fill, y.size, gpu.constant, y)
    else:
        launch(power_forward, x.size, x, gpu.power, gpu.scale, gpu.shift, y)


def gradient(layer, x, y, dy, dx):
    gpu = layer.gpu
    if layer.is_constant or layer.power == 1:
        launch(vector.scale, dy.size, gpu.slope, dy, dx)
    else:
        launch(power_backward, x.size, x, dy, gpu.power, gpu.scale, gpu.shift, gpu.slope, dx)


twin = Elementwise(apply, gradient)
reshape, forward, backward = twin.reshape, twin.forward, twin.backward


@cuda_kernel
def power_forward(x, power, scale, shift, y):
    one = x.dtype.type(1)
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        base = scale * x[i] + shift
        y[i] = base if power == one else base**power


@cuda_kernel
def power_backward(x, dy, power, scale, shift, slope, dx):
    one = x.dtype.type(1)
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        dx[i] = dy[i] * slope * (scale * x[i] + shift) ** (power - one)
