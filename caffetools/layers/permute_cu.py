"""Permute on the GPU; the mathematics is in `permute`."""

from __future__ import annotations

from caffetools.parts.transpose_cu import Transpose


def reshape(layer, bottom, top):
    layer.gpu.transpose = Transpose(bottom[0].shape, layer.order)


def forward(layer, bottom, top):
    layer.gpu.transpose.apply(bottom[0].gpu_data, top[0].mutable_gpu_data)


def backward(layer, top, propagate_down, bottom):
    if propagate_down[0]:
        layer.gpu.transpose.restore(top[0].gpu_diff, bottom[0].mutable_gpu_diff)
