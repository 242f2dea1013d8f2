"""Split on the GPU: the tops are the bottom seen again, their gradients are summed."""

from __future__ import annotations

from caffetools.engine.gpu import vector
from caffetools.engine.gpu.launch import launch


def forward(layer, bottom, top):
    layer.forward(bottom, top)  # which moves no numbers: it lets the tops share the bottom's storage


def backward(layer, top, propagate_down, bottom):
    if not propagate_down[0]:
        return
    dx = bottom[0].mutable_gpu_diff
    if len(top) == 1:
        vector.copy(top[0].gpu_diff, dx)
        return
    launch(vector.add, dx.size, top[0].gpu_diff, top[1].gpu_diff, dx)
    for blob in top[2:]:
        launch(vector.add, dx.size, dx, blob.gpu_diff, dx)
