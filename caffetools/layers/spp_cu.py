"""SPP on the GPU: its levels are Pooling layers; their tops are put side by side."""

from __future__ import annotations

from types import SimpleNamespace

from caffetools.engine.gpu import vector
from caffetools.engine.gpu.launch import launch
from caffetools.layers import pooling_cu
from caffetools.layers.concat_cu import extract_columns, insert_columns


def reshape(layer, bottom, top):
    for pooling, blob in zip(layer.poolings, layer.pooled, strict=True):
        if not hasattr(pooling, "gpu"):
            pooling.gpu = SimpleNamespace()
            pooling_cu.setup(pooling, bottom, [blob])
        pooling_cu.reshape(pooling, bottom, [blob])


def forward(layer, bottom, top):
    y, first = top[0].mutable_gpu_data, 0
    for pooling, blob in zip(layer.poolings, layer.pooled, strict=True):
        pooling_cu.forward(pooling, bottom, [blob])
        width = blob.count_from(1)
        launch(insert_columns, blob.count, blob.gpu_data, width, layer.matrix[1], first, y)
        first += width


def backward(layer, top, propagate_down, bottom):
    if not propagate_down[0]:
        return
    dy, dx, first = top[0].gpu_diff, bottom[0].mutable_gpu_diff, 0
    for i, (pooling, blob) in enumerate(zip(layer.poolings, layer.pooled, strict=True)):
        width = blob.count_from(1)
        launch(extract_columns, blob.count, dy, width, layer.matrix[1], first, blob.mutable_gpu_diff)
        first += width
        if i == 0:
            pooling_cu.backward(pooling, [blob], [True], bottom)
        else:
            pooling_cu.backward(pooling, [blob], [True], [layer.part])
            launch(vector.add, dx.size, dx, layer.part.gpu_diff, dx)
