"""InnerProduct on the GPU; the mathematics is in `inner_product`."""

from __future__ import annotations

from caffetools.engine.gpu import vector
from caffetools.engine.gpu.gemm import gemm
from caffetools.engine.gpu.launch import launch


def multiply(layer, x, y):
    """Compute y = x W^T."""
    (rows, inputs), outputs = layer.x_shape, layer.outputs
    gemm(False, not layer.transpose, rows, outputs, inputs, 1, x, layer.blobs[0].gpu_data, 0, y)


def forward(layer, bottom, top):
    x, y = bottom[0].gpu_data, top[0].mutable_gpu_data
    multiply(layer, x, y)
    if len(layer.blobs) > 1:
        launch(vector.add_row, y.size, layer.blobs[1].gpu_data, y)


def backward(layer, top, propagate_down, bottom):
    (rows, inputs), outputs = layer.x_shape, layer.outputs
    dy = top[0].gpu_diff
    if layer.param_propagate_down[0]:
        x, dw = bottom[0].gpu_data, layer.blobs[0].mutable_gpu_diff
        if layer.transpose:
            gemm(True, False, inputs, outputs, rows, 1, x, dy, 1, dw)
        else:
            gemm(True, False, outputs, inputs, rows, 1, dy, x, 1, dw)
    if len(layer.blobs) > 1 and layer.param_propagate_down[1]:
        launch(vector.add_column_sums, outputs, dy, rows, layer.blobs[1].mutable_gpu_diff)
    if propagate_down[0]:
        w, dx = layer.blobs[0].gpu_data, bottom[0].mutable_gpu_diff
        gemm(False, layer.transpose, rows, inputs, outputs, 1, dy, w, 0, dx)
