"""Softmax on the GPU; the mathematics is in `softmax`.

Where the classes of an item lie side by side and are many, a block works on each item; otherwise a thread does, so that
neighbouring threads read neighbouring elements.
"""

from __future__ import annotations

import math

from numba import cuda

from caffetools.engine.gpu.launch import THREADS, cuda_kernel, launch, launch_blocks
from caffetools.engine.gpu.reduce import block_max, block_sum

#: Classes from which on an item gets a block.
MANY = 64


def forward(layer, bottom, top):
    softmax(layer, bottom[0].gpu_data, top[0].mutable_gpu_data)


def softmax(layer, x, y):
    """Write the Softmax of x into y, which may be x; layer: with `classes` and `inner`."""
    if layer.inner == 1 and layer.classes >= MANY:
        launch_blocks(softmax_forward_rows, x.size // layer.classes, THREADS, x, layer.classes, y)
    elif x.size:
        launch(softmax_forward, x.size // layer.classes, x, layer.classes, layer.inner, y)


def backward(layer, top, propagate_down, bottom):
    if not propagate_down[0]:
        return
    y, dy, dx = top[0].gpu_data, top[0].gpu_diff, bottom[0].mutable_gpu_diff
    if layer.inner == 1 and layer.classes >= MANY:
        launch_blocks(softmax_backward_rows, y.size // layer.classes, THREADS, y, dy, layer.classes, dx)
    elif y.size:
        launch(softmax_backward, y.size // layer.classes, y, dy, layer.classes, layer.inner, dx)


@cuda_kernel
def softmax_forward(x, classes, inner, y):
    zero = x.dtype.type(0)
    for item in range(cuda.grid(1), x.size // classes, cuda.gridsize(1)):
        first = item // inner * classes * inner + item % inner
        last = first + classes * inner
        largest = x[first]
        for i in range(first, last, inner):
            largest = max(largest, x[i])
        total = zero
        for i in range(first, last, inner):
            e = math.exp(x[i] - largest)
            y[i] = e
            total += e
        for i in range(first, last, inner):
            y[i] /= total


@cuda_kernel
def softmax_forward_rows(x, classes, y):
    shared = cuda.shared.array(THREADS, x.dtype)
    thread, threads = cuda.threadIdx.x, cuda.blockDim.x
    for item in range(cuda.blockIdx.x, x.size // classes, cuda.gridDim.x):
        first, last = item * classes, (item + 1) * classes
        largest = x[first]
        for i in range(first + thread, last, threads):
            largest = max(largest, x[i])
        largest = block_max(largest, shared)
        total = x.dtype.type(0)
        for i in range(first + thread, last, threads):
            e = math.exp(x[i] - largest)
            y[i] = e
            total += e
        total = block_sum(total, shared)
        for i in range(first + thread, last, threads):
            y[i] /= total


@cuda_kernel
def softmax_backward(y, dy, classes, inner, dx):
    for item in range(cuda.grid(1), y.size // classes, cuda.gridsize(1)):
        first = item // inner * classes * inner + item % inner
        last = first + classes * inner
        dot = y.dtype.type(0)
        for i in range(first, last, inner):
            dot += dy[i] * y[i]
        for i in range(first, last, inner):
            dx[i] = (dy[i] - dot) * y[i]


@cuda_kernel
def softmax_backward_rows(y, dy, classes, dx):
    shared = cuda.shared.array(THREADS, y.dtype)
    thread, threads = cuda.threadIdx.x, cuda.blockDim.x
    for item in range(cuda.blockIdx.x, y.size // classes, cuda.gridDim.x):
        first, last = item * classes, (item + 1) * classes
        dot = y.dtype.type(0)
        for i in range(first + thread, last, threads):
            dot += dy[i] * y[i]
        dot = block_sum(dot, shared)
        for i in range(first + thread, last, threads):
            dx[i] = (dy[i] - dot) * y[i]
