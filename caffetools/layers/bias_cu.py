"""Bias on the GPU; the mathematics is in `bias`."""

from __future__ import annotations

from numba import cuda

from caffetools.engine.gpu import vector
from caffetools.engine.gpu.index import middle
from caffetools.engine.gpu.launch import cuda_kernel, launch
from caffetools.parts.channel_sums_cu import ChannelSums


def reshape(layer, bottom, top):
    layer.gpu.sums = sums_of(layer, bottom)


def sums_of(layer, bottom):
    """Return the sums over the bias's, or the scale's, axis of the bottom."""
    size = (bottom[1] if len(bottom) > 1 else layer.blobs[0]).count
    inner = layer.spans.inner
    return ChannelSums(bottom[0].count // max(1, size * inner), size, inner, layer.dtype)


def forward(layer, bottom, top):
    bias = bottom[1] if len(bottom) > 1 else layer.blobs[0]
    x = bottom[0].gpu_data
    launch(add_bias, x.size, x, bias.gpu_data, layer.spans.inner, top[0].mutable_gpu_data)


def backward(layer, top, propagate_down, bottom):
    dy = top[0].gpu_diff
    if len(bottom) > 1:
        if propagate_down[1]:
            layer.gpu.sums.totals(dy, False, bottom[1].mutable_gpu_diff)
    elif layer.param_propagate_down[0]:
        layer.gpu.sums.totals(dy, True, layer.blobs[0].mutable_gpu_diff)
    if propagate_down[0] and top[0] is not bottom[0]:
        vector.copy(dy, bottom[0].mutable_gpu_diff)


@cuda_kernel
def add_bias(x, b, inner, y):
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        y[i] = x[i] + b[middle(i, b.size, inner)]
