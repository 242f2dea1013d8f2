"""Dropout on the GPU; the mathematics is in `dropout`. The masks are those of the CPU for the same seed."""

from __future__ import annotations

import numpy as np
from numba import cuda

from caffetools.engine.gpu import vector
from caffetools.engine.gpu.launch import cuda_kernel, launch
from caffetools.engine.gpu.rng import random_uniform
from caffetools.layer import TRAIN


def forward(layer, bottom, top):
    if layer.phase == TRAIN:
        layer.mask_start = layer.next_start
        layer.next_start = np.uint64(int(layer.mask_start) + bottom[0].count)
        _mask(layer, bottom[0].gpu_data, top[0].mutable_gpu_data)
    elif top[0] is not bottom[0]:
        vector.copy(bottom[0].gpu_data, top[0].mutable_gpu_data)


def backward(layer, top, propagate_down, bottom):
    if not propagate_down[0]:
        return
    if layer.phase == TRAIN:
        dy = top[0].gpu_diff
        _mask(layer, dy, bottom[0].mutable_gpu_diff)
    elif top[0] is not bottom[0]:
        vector.copy(top[0].gpu_diff, bottom[0].mutable_gpu_diff)


def _mask(layer, x, y):
    launch(mask_and_scale, x.size, x, layer.key, layer.mask_start, layer.ratio, layer.scale, y)


@cuda_kernel
def mask_and_scale(x, key, start, ratio, scale, y):
    zero = x.dtype.type(0)
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        # A product in both cases, so that a NaN goes through.
        y[i] = x[i] * (scale if random_uniform(key, start + np.uint64(i)) >= ratio else zero)
