"""MVN on the GPU; the mathematics is in `mvn`. A block works on each row."""

from __future__ import annotations

import math

from numba import cuda

from caffetools.engine.gpu.device import current
from caffetools.engine.gpu.launch import THREADS, cuda_kernel, launch_blocks
from caffetools.engine.gpu.memory import device_array
from caffetools.engine.gpu.reduce import block_sum


def reshape(layer, bottom, top):
    layer.gpu.factor = device_array(current(), layer.matrix[0], layer.dtype)


def forward(layer, bottom, top):
    rows, size = layer.matrix
    launch_blocks(
        mvn_forward,
        rows,
        THREADS,
        bottom[0].gpu_data,
        size,
        layer.normalize_variance,
        layer.eps,
        layer.gpu.factor,
        top[0].mutable_gpu_data,
    )


def backward(layer, top, propagate_down, bottom):
    if propagate_down[0]:
        rows, size = layer.matrix
        y, dy = top[0].gpu_data, top[0].gpu_diff
        dx = bottom[0].mutable_gpu_diff
        launch_blocks(mvn_backward, rows, THREADS, y, dy, size, layer.normalize_variance, layer.gpu.factor, dx)


@cuda_kernel
def mvn_forward(x, size, normalize_variance, eps, factor, y):
    shared = cuda.shared.array(THREADS, x.dtype)
    thread, threads = cuda.threadIdx.x, cuda.blockDim.x
    zero, one = x.dtype.type(0), x.dtype.type(1)
    count = x.dtype.type(size)
    for row in range(cuda.blockIdx.x, factor.size, cuda.gridDim.x):
        first, last = row * size, (row + 1) * size
        own = zero
        for i in range(first + thread, last, threads):
            own += x[i]
        mean = block_sum(own, shared) / count
        own = zero
        for i in range(first + thread, last, threads):
            v = x[i] - mean
            y[i] = v
            own += v * v
        squares = block_sum(own, shared)
        scale = one / (math.sqrt(squares / count) + eps) if normalize_variance else one
        if thread == 0:
            factor[row] = scale
        for i in range(first + thread, last, threads):
            y[i] *= scale


@cuda_kernel
def mvn_backward(y, dy, size, normalize_variance, factor, dx):
    shared = cuda.shared.array(THREADS, y.dtype)
    thread, threads = cuda.threadIdx.x, cuda.blockDim.x
    zero = y.dtype.type(0)
    count = y.dtype.type(size)
    for row in range(cuda.blockIdx.x, factor.size, cuda.gridDim.x):
        first, last = row * size, (row + 1) * size
        own, own_product = zero, zero
        for i in range(first + thread, last, threads):
            own += dy[i]
            own_product += dy[i] * y[i]
        mean = block_sum(own, shared) / count
        product = block_sum(own_product, shared) / count if normalize_variance else zero
        for i in range(first + thread, last, threads):
            dx[i] = (dy[i] - mean - y[i] * product) * factor[row]
