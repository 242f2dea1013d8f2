"""Normalize on the GPU; the mathematics is in `normalize`. A block adds up the values that share a length."""

from __future__ import annotations

import math

from numba import cuda

from caffetools.engine.gpu.device import current
from caffetools.engine.gpu.launch import THREADS, cuda_kernel, launch, launch_blocks
from caffetools.engine.gpu.memory import device_array
from caffetools.engine.gpu.reduce import block_sum


def reshape(layer, bottom, top):
    items, channels, plane = layer.matrix
    gpu, engine = layer.gpu, current()
    gpu.lengths = device_array(engine, items if layer.across_spatial else items * plane, layer.dtype)
    gpu.along = device_array(engine, gpu.lengths.size, layer.dtype)
    gpu.gradient = device_array(engine, channels, layer.dtype)
    gpu.sizes = channels, plane, layer.across_spatial


def forward(layer, bottom, top):
    gpu, x, scale = layer.gpu, bottom[0].gpu_data, layer.blobs[0].gpu_data
    launch_blocks(lengths_of, gpu.lengths.size, THREADS, x, *gpu.sizes, layer.eps, gpu.lengths)
    launch(normalize_forward, x.size, x, gpu.lengths, scale, *gpu.sizes, top[0].mutable_gpu_data)


def backward(layer, top, propagate_down, bottom):
    gpu, x, scale = layer.gpu, bottom[0].gpu_data, layer.blobs[0].gpu_data
    dy = top[0].gpu_diff
    if layer.param_propagate_down[0]:
        launch_blocks(
            scale_gradient, gpu.gradient.size, THREADS, x, dy, gpu.lengths, *gpu.sizes, gpu.gradient
        )
        target = layer.blobs[0].mutable_gpu_diff
        launch(add_all if target.size == 1 else add_each, target.size, gpu.gradient, target)
    if propagate_down[0]:
        launch_blocks(
            products_along, gpu.along.size, THREADS, x, dy, gpu.lengths, scale, *gpu.sizes, gpu.along
        )
        dx = bottom[0].mutable_gpu_diff
        launch(normalize_backward, dx.size, x, dy, gpu.lengths, gpu.along, scale, *gpu.sizes, dx)


@cuda_kernel
def lengths_of(x, channels, plane, across, eps, lengths):
    """sqrt(sum x^2 + eps) over the channels of each pixel, or over all of an item."""
    shared = cuda.shared.array(THREADS, x.dtype)
    for j in range(cuda.blockIdx.x, lengths.size, cuda.gridDim.x):
        count, step = (channels * plane, 1) if across else (channels, plane)
        first = j * count if across else j // plane * channels * plane + j % plane
        own = x.dtype.type(0)
        for k in range(cuda.threadIdx.x, count, cuda.blockDim.x):
            v = x[first + k * step]
            own += v * v
        total = block_sum(own, shared)
        if cuda.threadIdx.x == 0:
            lengths[j] = math.sqrt(total + eps)


@cuda_kernel
def products_along(x, dy, lengths, scale, channels, plane, across, along):
    """sum (s dy x / |x|), over what shares a length."""
    shared = cuda.shared.array(THREADS, x.dtype)
    for j in range(cuda.blockIdx.x, lengths.size, cuda.gridDim.x):
        count, step = (channels * plane, 1) if across else (channels, plane)
        first = j * count if across else j // plane * channels * plane + j % plane
        own = x.dtype.type(0)
        for k in range(cuda.threadIdx.x, count, cuda.blockDim.x):
            i = first + k * step
            own += scale[i // plane % channels % scale.size] * dy[i] * (x[i] / lengths[j])
        total = block_sum(own, shared)
        if cuda.threadIdx.x == 0:
            along[j] = total


@cuda_kernel
def scale_gradient(x, dy, lengths, channels, plane, across, sums):
    """sum dy x / |x| over each channel, by a block each."""
    shared = cuda.shared.array(THREADS, x.dtype)
    items = x.size // (channels * plane)
    for c in range(cuda.blockIdx.x, channels, cuda.gridDim.x):
        own = x.dtype.type(0)
        for k in range(cuda.threadIdx.x, items * plane, cuda.blockDim.x):
            i = (k // plane * channels + c) * plane + k % plane
            own += dy[i] * (x[i] / lengths[k // plane if across else k])
        total = block_sum(own, shared)
        if cuda.threadIdx.x == 0:
            sums[c] = total


@cuda_kernel
def add_each(x, y):
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        y[i] += x[i]


@cuda_kernel
def add_all(x, y):
    """y_0 += sum x_i, for a few of them."""
    for _ in range(cuda.grid(1), 1, cuda.gridsize(1)):
        total = x.dtype.type(0)
        for i in range(x.size):
            total += x[i]
        y[0] += total


@cuda_kernel
def normalize_forward(x, lengths, scale, channels, plane, across, y):
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        item = i // (channels * plane)
        length = lengths[item if across else item * plane + i % plane]
        y[i] = x[i] / length * scale[i // plane % channels % scale.size]


@cuda_kernel
def normalize_backward(x, dy, lengths, along, scale, channels, plane, across, dx):
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        item = i // (channels * plane)
        j = item if across else item * plane + i % plane
        length = lengths[j]
        dx[i] = (scale[i // plane % channels % scale.size] * dy[i] - x[i] / length * along[j]) / length
