"""Threshold on the GPU; the mathematics is in `threshold`."""

from __future__ import annotations

from numba import cuda

from caffetools.engine.gpu.launch import cuda_kernel, launch


def forward(layer, bottom, top):
    x = bottom[0].gpu_data
    launch(threshold_forward, x.size, x, layer.threshold, top[0].mutable_gpu_data)


@cuda_kernel
def threshold_forward(x, threshold, y):
    zero, one = x.dtype.type(0), x.dtype.type(1)
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        y[i] = one if x[i] > threshold else zero
