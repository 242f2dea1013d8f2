"""Scale on the GPU; the mathematics is in `scale`."""

from __future__ import annotations

from numba import cuda

from caffetools.engine.gpu import vector
from caffetools.engine.gpu.device import current
from caffetools.engine.gpu.launch import THREADS, cuda_kernel, launch, launch_blocks
from caffetools.engine.gpu.memory import device_array
from caffetools.engine.gpu.reduce import block_sum
from caffetools.layers.bias_cu import sum_spans


def reshape(layer, bottom, top):
    in_place = top[0] is bottom[0]
    layer.gpu.kept_input = device_array(current(), bottom[0].count, layer.dtype) if in_place else None


def forward(layer, bottom, top):
    x, kept = bottom[0].gpu_data, layer.gpu.kept_input
    if kept is not None:
        vector.copy(x, kept)
        x = kept
    scale, inner, y = _scale(layer, bottom).gpu_data, layer.spans.inner, top[0].mutable_gpu_data
    if layer.has_bias:
        launch(scale_and_shift, x.size, x, scale, layer.blobs[-1].gpu_data, inner, y)
    else:
        launch(scale_forward, x.size, x, scale, inner, y)


def backward(layer, top, propagate_down, bottom):
    kept = layer.gpu.kept_input
    x, dy, inner = bottom[0].gpu_data if kept is None else kept, top[0].gpu_diff, layer.spans.inner
    if len(bottom) > 1:
        if propagate_down[1]:
            _sum_products(dy, x, inner, False, bottom[1].mutable_gpu_diff)
    elif layer.param_propagate_down[0]:
        _sum_products(dy, x, inner, True, layer.blobs[0].mutable_gpu_diff)
    if layer.has_bias and layer.param_propagate_down[-1]:
        sum_spans(dy, inner, True, layer.blobs[-1].mutable_gpu_diff)
    if propagate_down[0]:  # last: in place it overwrites dy
        scale = _scale(layer, bottom).gpu_data
        launch(scale_forward, dy.size, dy, scale, inner, bottom[0].mutable_gpu_diff)


def _scale(layer, bottom):
    return bottom[1] if len(bottom) > 1 else layer.blobs[0]


def _sum_products(dy, x, inner, accumulate, ds):
    launch_blocks(span_products, ds.size, THREADS, dy, x, inner, accumulate, ds)


@cuda_kernel
def scale_forward(x, s, inner, y):
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        y[i] = x[i] * s[i // inner % s.size]


@cuda_kernel
def scale_and_shift(x, s, b, inner, y):
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        place = i // inner % s.size
        y[i] = x[i] * s[place] + b[place]


@cuda_kernel
def span_products(dy, x, inner, accumulate, ds):
    """Sum dy x, seen as (outer, ds.size, inner), over all but its middle axis; accumulate: add to ds."""
    shared = cuda.shared.array(THREADS, dy.dtype)
    thread, threads = cuda.threadIdx.x, cuda.blockDim.x
    size = ds.size
    count = dy.size // size
    for d in range(cuda.blockIdx.x, size, cuda.gridDim.x):
        own = dy.dtype.type(0)
        for k in range(thread, count, threads):
            i = (k // inner * size + d) * inner + k % inner
            own += dy[i] * x[i]
        total = block_sum(own, shared)
        if thread == 0:
            ds[d] = ds[d] + total if accumulate else total
