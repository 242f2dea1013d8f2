"""Convolution on the GPU; the mathematics is in `convolution`."""

from __future__ import annotations

from math import prod

from caffetools.engine.gpu import conv
from caffetools.engine.gpu.conv import BiasGradient


def reshape(layer, bottom, top):
    if getattr(layer.gpu, "planned", None) == layer.planned:
        return
    layer.gpu.planned = layer.planned
    layer.gpu.plan = make_plan(layer, layer.x_shape)
    layer.gpu.bias_gradient = bias_gradient(layer)


def make_plan(layer, input_shape):
    """Return the plan of a convolution of inputs of this planar shape with the layer's filters."""
    window, missing = layer.window, 2 - len(layer.window.kernel)
    stride, pad, dilation = (
        (neutral,) * missing + sizes
        for neutral, sizes in ((1, window.stride), (0, window.pad), (1, window.dilation))
    )
    choice = layer.param.convolution_param.engine
    return conv.plan(choice, input_shape, layer.w_shape, stride, pad, dilation, layer.group, layer.dtype)


def bias_gradient(layer):
    """Return what adds up the gradient of the bias, None without one."""
    if len(layer.blobs) == 1:
        return None
    items, channels, *sizes = layer.y_shape
    return BiasGradient(items, channels, prod(sizes), layer.dtype)


def bias_of(layer):
    """Return the bias on the device, or None."""
    return layer.blobs[1].gpu_data if len(layer.blobs) > 1 else None


def forward(layer, bottom, top):
    w, bias = layer.blobs[0].gpu_data, bias_of(layer)
    for below, above in zip(bottom, top, strict=True):
        layer.gpu.plan.forward(below.gpu_data, w, bias, above.mutable_gpu_data)


def backward(layer, top, propagate_down, bottom):
    plan = layer.gpu.plan
    for above, below, wanted in zip(top, bottom, propagate_down, strict=True):
        dy = above.gpu_diff
        if layer.param_propagate_down[0]:
            plan.backward_weights(below.gpu_data, dy, layer.blobs[0].mutable_gpu_diff)
        if len(layer.blobs) > 1 and layer.param_propagate_down[1]:
            layer.gpu.bias_gradient.add(dy, layer.blobs[1].mutable_gpu_diff)
        if wanted:
            plan.backward_data(dy, layer.blobs[0].gpu_data, below.mutable_gpu_diff)
