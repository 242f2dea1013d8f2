"""Deconvolution on the GPU: a convolution's passes the other way round, see `deconvolution`."""

from __future__ import annotations

from caffetools.layers.convolution_cu import bias_gradient, bias_of, make_plan


def reshape(layer, bottom, top):
    if getattr(layer.gpu, "planned", None) == layer.planned:
        return
    layer.gpu.planned = layer.planned
    layer.gpu.plan = make_plan(layer, layer.y_shape)
    layer.gpu.bias_gradient = bias_gradient(layer)


def forward(layer, bottom, top):
    w, bias = layer.blobs[0].gpu_data, bias_of(layer)
    for below, above in zip(bottom, top, strict=True):
        layer.gpu.plan.backward_data(below.gpu_data, w, above.mutable_gpu_data, bias)


def backward(layer, top, propagate_down, bottom):
    plan = layer.gpu.plan
    for above, below, wanted in zip(top, bottom, propagate_down, strict=True):
        dy = above.gpu_diff
        if layer.param_propagate_down[0]:
            plan.backward_weights(dy, below.gpu_data, layer.blobs[0].mutable_gpu_diff)
        if len(layer.blobs) > 1 and layer.param_propagate_down[1]:
            layer.gpu.bias_gradient.add(dy, layer.blobs[1].mutable_gpu_diff)
        if wanted:
            plan.forward(dy, layer.blobs[0].gpu_data, None, below.mutable_gpu_diff)
