"""Reduction on the GPU; the mathematics is in `reduction`. A block sums a row."""

from __future__ import annotations

from numba import cuda

from caffetools.engine.gpu.launch import THREADS, cuda_kernel, launch, launch_blocks
from caffetools.engine.gpu.reduce import block_sum
from caffetools.layers.reduction import ASUM, SUMSQ

# What is summed: x itself (also of the mean, whose factor tells), |x| or x^2.
PLAIN, ABSOLUTE, SQUARE = range(3)
TERMS = {ASUM: ABSOLUTE, SUMSQ: SQUARE}


def setup(layer, bottom, top):
    layer.gpu.term = TERMS.get(layer.operation, PLAIN)


def forward(layer, bottom, top):
    rows, columns = layer.shape
    factor = layer.dtype.type(layer.factor)
    y = top[0].mutable_gpu_data
    launch_blocks(reduce_rows, rows, THREADS, bottom[0].gpu_data, columns, layer.gpu.term, factor, y)


def backward(layer, top, propagate_down, bottom):
    if propagate_down[0]:
        factor, dx = layer.dtype.type(layer.factor), bottom[0].mutable_gpu_diff
        x, dy = bottom[0].gpu_data, top[0].gpu_diff
        launch(reduce_backward, dx.size, x, dy, layer.shape[1], layer.gpu.term, factor, dx)


@cuda_kernel
def reduce_rows(x, columns, term, factor, y):
    shared = cuda.shared.array(THREADS, x.dtype)
    thread, threads = cuda.threadIdx.x, cuda.blockDim.x
    for row in range(cuda.blockIdx.x, y.size, cuda.gridDim.x):
        own = x.dtype.type(0)
        for column in range(thread, columns, threads):
            v = x[row * columns + column]
            own += abs(v) if term == ABSOLUTE else v * v if term == SQUARE else v
        total = block_sum(own, shared)
        if thread == 0:
            y[row] = factor * total


@cuda_kernel
def reduce_backward(x, dy, columns, term, factor, dx):
    zero, two = x.dtype.type(0), x.dtype.type(2)
    for i in range(cuda.grid(1), dx.size, cuda.gridsize(1)):
        v, slope = x[i], factor * dy[i // columns]
        if term == ABSOLUTE:
            dx[i] = slope if v > zero else -slope if v < zero else slope * v
        elif term == SQUARE:
            dx[i] = slope * two * v
        else:
            dx[i] = slope
