"""Bias on the GPU; the mathematics is in `bias`."""

from __future__ import annotations

from numba import cuda

from caffetools.engine.gpu import vector
from caffetools.engine.gpu.launch import THREADS, cuda_kernel, launch, launch_blocks
from caffetools.engine.gpu.reduce import block_sum


def forward(layer, bottom, top):
    bias = bottom[1] if len(bottom) > 1 else layer.blobs[0]
    x = bottom[0].gpu_data
    launch(add_bias, x.size, x, bias.gpu_data, layer.spans.inner, top[0].mutable_gpu_data)


def backward(layer, top, propagate_down, bottom):
    dy, inner = top[0].gpu_diff, layer.spans.inner
    if len(bottom) > 1:
        if propagate_down[1]:
            sum_spans(dy, inner, False, bottom[1].mutable_gpu_diff)
    elif layer.param_propagate_down[0]:
        sum_spans(dy, inner, True, layer.blobs[0].mutable_gpu_diff)
    if propagate_down[0] and top[0] is not bottom[0]:
        vector.copy(dy, bottom[0].mutable_gpu_diff)


def sum_spans(dy, inner, accumulate, db):
    """Sum dy, seen as (outer, db.size, inner), over all but its middle axis; accumulate: add to db."""
    launch_blocks(span_sums, db.size, THREADS, dy, inner, accumulate, db)


@cuda_kernel
def add_bias(x, b, inner, y):
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        y[i] = x[i] + b[i // inner % b.size]


@cuda_kernel
def span_sums(dy, inner, accumulate, db):
    shared = cuda.shared.array(THREADS, dy.dtype)
    thread, threads = cuda.threadIdx.x, cuda.blockDim.x
    size = db.size
    count = dy.size // size
    for d in range(cuda.blockIdx.x, size, cuda.gridDim.x):
        own = dy.dtype.type(0)
        for k in range(thread, count, threads):
            own += dy[(k // inner * size + d) * inner + k % inner]
        total = block_sum(own, shared)
        if thread == 0:
            db[d] = db[d] + total if accumulate else total
