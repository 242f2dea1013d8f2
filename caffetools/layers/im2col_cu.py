"""Im2col on the GPU; the mathematics is in `im2col`."""

from __future__ import annotations

from caffetools.engine.gpu.unfold import Unfolding


def reshape(layer, bottom, top):
    shape = bottom[0].shape
    if getattr(layer.gpu, "shape", None) == shape:
        return
    layer.gpu.shape = shape
    window = layer.window
    layer.gpu.items, channels, *sizes = layer.x_shape
    layer.gpu.windows = Unfolding(channels, sizes, window.kernel, window.stride, window.pad, window.dilation)


def forward(layer, bottom, top):
    layer.gpu.windows.unfold(bottom[0].gpu_data, 0, layer.gpu.items, top[0].mutable_gpu_data)


def backward(layer, top, propagate_down, bottom):
    if propagate_down[0]:
        layer.gpu.windows.fold(top[0].gpu_diff, bottom[0].mutable_gpu_diff, 0, layer.gpu.items)
