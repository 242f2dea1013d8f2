"""Crop on the GPU; the mathematics is in `crop`."""

from __future__ import annotations

from math import prod

import numpy as np
from numba import cuda

from caffetools.engine.gpu.device import current
from caffetools.engine.gpu.launch import cuda_device, cuda_kernel, launch
from caffetools.engine.gpu.memory import to_device, zero


def reshape(layer, bottom, top):
    shape, sizes = bottom[0].shape, top[0].shape
    steps = [prod(shape[axis + 1 :]) for axis in range(len(shape))]
    start = sum(cut.start * step for cut, step in zip(layer.cut, steps, strict=True))
    layer.gpu.start = start
    # The sizes of the top's axes, and how far apart their elements lie in the bottom.
    layer.gpu.sizes = to_device(current(), np.array(sizes, np.int64))
    layer.gpu.steps = to_device(current(), np.array(steps, np.int64))


def forward(layer, bottom, top):
    gpu, y = layer.gpu, top[0].mutable_gpu_data
    launch(crop_forward, y.size, bottom[0].gpu_data, gpu.start, gpu.sizes, gpu.steps, y)


def backward(layer, top, propagate_down, bottom):
    if propagate_down[0]:
        gpu, dy, dx = layer.gpu, top[0].gpu_diff, bottom[0].mutable_gpu_diff
        zero(current(), dx)
        launch(crop_backward, dy.size, dy, gpu.start, gpu.sizes, gpu.steps, dx)
    if propagate_down[1]:
        zero(current(), bottom[1].mutable_gpu_diff)


@cuda_device
def place_of(i, start, sizes, steps):
    """Return where element i of the top lies in the bottom."""
    place = start
    for k in range(sizes.size):
        axis = sizes.size - 1 - k
        place += i % sizes[axis] * steps[axis]
        i //= sizes[axis]
    return place


@cuda_kernel
def crop_forward(x, start, sizes, steps, y):
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        y[i] = x[place_of(i, start, sizes, steps)]


@cuda_kernel
def crop_backward(dy, start, sizes, steps, dx):
    for i in range(cuda.grid(1), dy.size, cuda.gridsize(1)):
        dx[place_of(i, start, sizes, steps)] = dy[i]
