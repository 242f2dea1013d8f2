"""ShuffleChannel on the GPU; the mathematics is in `shuffle_channel`."""

from __future__ import annotations

from caffetools.parts.transpose_cu import Transpose


def reshape(layer, bottom, top):
    layer.gpu.transpose = Transpose(layer.grouped, (0, 2, 1, 3))


def forward(layer, bottom, top):
    layer.gpu.transpose.apply(bottom[0].gpu_data, top[0].mutable_gpu_data)


def backward(layer, top, propagate_down, bottom):
    if propagate_down[0]:
        layer.gpu.transpose.restore(top[0].gpu_diff, bottom[0].mutable_gpu_diff)
