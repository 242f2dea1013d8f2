"""Axpy on the GPU; the mathematics is in `axpy`."""

from __future__ import annotations

from numba import cuda

from caffetools.engine.gpu import vector
from caffetools.engine.gpu.launch import THREADS, cuda_kernel, launch, launch_blocks
from caffetools.engine.gpu.reduce import block_sum
from caffetools.layers.batch_norm_cu import scale_channels


def forward(layer, bottom, top):
    a, x, y = (blob.gpu_data for blob in bottom)
    launch(axpy_forward, x.size, a, x, layer.planes[1], y, top[0].mutable_gpu_data)


def backward(layer, top, propagate_down, bottom):
    planes, plane = layer.planes
    dy = top[0].gpu_diff
    if propagate_down[0]:
        da = bottom[0].mutable_gpu_diff
        launch_blocks(products_of_planes, planes, THREADS, dy, bottom[1].gpu_data, plane, da)
    if propagate_down[1]:
        launch(scale_channels, dy.size, dy, bottom[0].gpu_data, plane, bottom[1].mutable_gpu_diff)
    if propagate_down[2] and bottom[2] is not top[0]:
        vector.copy(dy, bottom[2].mutable_gpu_diff)


@cuda_kernel
def axpy_forward(a, x, plane, y, result):
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        result[i] = a[i // plane] * x[i] + y[i]


@cuda_kernel
def products_of_planes(dy, x, plane, sums):
    """sums_p = sum dy x over plane p, by a block each."""
    shared = cuda.shared.array(THREADS, x.dtype)
    for p in range(cuda.blockIdx.x, sums.size, cuda.gridDim.x):
        own = x.dtype.type(0)
        for i in range(cuda.threadIdx.x, plane, cuda.blockDim.x):
            own += dy[p * plane + i] * x[p * plane + i]
        total = block_sum(own, shared)
        if cuda.threadIdx.x == 0:
            sums[p] = total
