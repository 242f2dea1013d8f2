"""EuclideanLoss on the GPU; the mathematics is in `euclidean_loss`."""

from __future__ import annotations

import numpy as np
from numba import cuda

from caffetools.engine.gpu.launch import THREADS, cuda_kernel, launch, launch_blocks
from caffetools.engine.gpu.reduce import block_sum


def forward(layer, bottom, top):
    a, b = bottom[0].gpu_data, bottom[1].gpu_data
    launch_blocks(half_squared_distance, 1, THREADS, a, b, layer.rows, top[0].mutable_gpu_data)


def backward(layer, top, propagate_down, bottom):
    a, b, weight = bottom[0].gpu_data, bottom[1].gpu_data, top[0].gpu_diff
    for blob, wanted, sign in zip(bottom, propagate_down, (1, -1), strict=True):
        if wanted:
            factor = layer.dtype.type(sign / layer.rows)
            launch(euclidean_backward, a.size, a, b, weight, factor, blob.mutable_gpu_diff)


@cuda_kernel
def half_squared_distance(a, b, rows, loss):
    """loss[0] = sum (a - b)^2 / (2 rows), added up in double precision by the first block."""
    shared = cuda.shared.array(THREADS, np.float64)
    if cuda.blockIdx.x == 0:
        own = np.float64(0)
        for i in range(cuda.threadIdx.x, a.size, cuda.blockDim.x):
            d = np.float64(a[i] - b[i])
            own += d * d
        total = block_sum(own, shared)
        if cuda.threadIdx.x == 0:
            loss[0] = total / (2 * rows)


@cuda_kernel
def euclidean_backward(a, b, weight, factor, dx):
    for i in range(cuda.grid(1), dx.size, cuda.gridsize(1)):
        dx[i] = weight[0] * factor * (a[i] - b[i])
