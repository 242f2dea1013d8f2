"""Slice on the GPU; the mathematics is in `slice`."""

from __future__ import annotations

from caffetools.engine.gpu.launch import launch
from caffetools.layers.concat_cu import extract_columns, insert_columns


def forward(layer, bottom, top):
    x, rows = bottom[0].gpu_data, max(1, layer.matrix[0])
    for blob, first in zip(top, layer.firsts, strict=True):
        width = blob.count // rows
        launch(extract_columns, blob.count, x, width, layer.matrix[1], first, blob.mutable_gpu_data)


def backward(layer, top, propagate_down, bottom):
    if not propagate_down[0]:
        return
    dx, rows = bottom[0].mutable_gpu_diff, max(1, layer.matrix[0])
    for blob, first in zip(top, layer.firsts, strict=True):
        launch(insert_columns, blob.count, blob.gpu_diff, blob.count // rows, layer.matrix[1], first, dx)
