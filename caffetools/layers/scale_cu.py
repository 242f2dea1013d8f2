"""Scale on the GPU; the mathematics is in `scale`."""

from __future__ import annotations

from numba import cuda

from caffetools.engine.gpu import vector
from caffetools.engine.gpu.device import current
from caffetools.engine.gpu.index import middle
from caffetools.engine.gpu.launch import cuda_kernel, launch
from caffetools.engine.gpu.memory import device_array
from caffetools.layers.bias_cu import sums_of


def reshape(layer, bottom, top):
    layer.gpu.sums = sums_of(layer, bottom)
    layer.gpu.kept_input = None


def forward(layer, bottom, top):
    if top[0] is bottom[0] and layer.gpu.kept_input is None:
        # Only here, because a layer that runs as one with others does not need it.
        layer.gpu.kept_input = device_array(current(), bottom[0].count, layer.dtype)
    x, kept = bottom[0].gpu_data, layer.gpu.kept_input
    scale, inner, y = _scale(layer, bottom).gpu_data, layer.spans.inner, top[0].mutable_gpu_data
    if layer.has_bias:
        keep = kept is not None
        bias = layer.blobs[-1].gpu_data
        launch(scale_and_shift, x.size, x, scale, bias, inner, keep, kept if keep else x, y)
        return
    if kept is not None:
        vector.copy(x, kept)
        x = kept
    launch(scale_forward, x.size, x, scale, inner, y)


def backward(layer, top, propagate_down, bottom):
    kept = layer.gpu.kept_input
    x, dy, inner = bottom[0].gpu_data if kept is None else kept, top[0].gpu_diff, layer.spans.inner
    if len(bottom) > 1:
        if propagate_down[1]:
            layer.gpu.sums.products(dy, x, False, bottom[1].mutable_gpu_diff)
    elif layer.param_propagate_down[0]:
        layer.gpu.sums.products(dy, x, True, layer.blobs[0].mutable_gpu_diff)
    if layer.has_bias and layer.param_propagate_down[-1]:
        layer.gpu.sums.totals(dy, True, layer.blobs[-1].mutable_gpu_diff)
    if propagate_down[0]:  # last: in place it overwrites dy
        scale = _scale(layer, bottom).gpu_data
        launch(scale_forward, dy.size, dy, scale, inner, bottom[0].mutable_gpu_diff)


def _scale(layer, bottom):
    return bottom[1] if len(bottom) > 1 else layer.blobs[0]


@cuda_kernel
def scale_forward(x, s, inner, y):
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        y[i] = x[i] * s[middle(i, s.size, inner)]


@cuda_kernel
def scale_and_shift(x, s, b, inner, keep, kept, y):
    """y = s x + b; keep: put x into `kept` as well, because y overwrites it."""
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        place = middle(i, s.size, inner)
        v = x[i]
        if keep:
            kept[i] = v
        y[i] = v * s[place] + b[place]
