"""SmoothL1Loss on the GPU; the mathematics is in `smooth_l1_loss`."""

from __future__ import annotations

import numpy as np
from numba import cuda

from caffetools.engine.gpu.device import current
from caffetools.engine.gpu.launch import THREADS, cuda_kernel, launch, launch_blocks
from caffetools.engine.gpu.memory import device_array
from caffetools.engine.gpu.reduce import block_sum


def reshape(layer, bottom, top):
    layer.gpu.difference = device_array(current(), bottom[0].count, layer.dtype)


def forward(layer, bottom, top):
    a, b = bottom[0].gpu_data, bottom[1].gpu_data
    loss = top[0].mutable_gpu_data
    arrays = a, b, *_weights(bottom), layer.gpu.difference
    launch_blocks(smooth_l1, 1, THREADS, *arrays, layer.sigma2, layer.items, loss)


def backward(layer, top, propagate_down, bottom):
    if any(propagate_down[2:]):
        layer.backward(top, propagate_down, bottom)  # which refuses
    difference, weight = layer.gpu.difference, top[0].gpu_diff
    for blob, wanted, sign in zip(bottom, propagate_down, (1, -1), strict=False):
        if wanted:
            dx = blob.mutable_gpu_diff
            factor = layer.dtype.type(sign / layer.items)
            arrays = difference, *_weights(bottom)
            launch(smooth_l1_backward, dx.size, *arrays, layer.sigma2, weight, factor, dx)


def _weights(bottom):
    """Return the arrays of weights and whether they are there; others, unread, stand for those that are not."""
    inside, outside = (len(bottom) > 2), (len(bottom) > 3)
    stand_in = bottom[0].gpu_data
    return (
        bottom[2].gpu_data if inside else stand_in,
        bottom[3].gpu_data if outside else stand_in,
        inside,
        outside,
    )


@cuda_kernel
def smooth_l1(a, b, inside, outside, has_inside, has_outside, difference, sigma2, items, loss):
    """loss[0], added up in double precision by the first block; difference = w_in (a - b)."""
    shared = cuda.shared.array(THREADS, np.float64)
    one, half = a.dtype.type(1), a.dtype.type(0.5)
    if cuda.blockIdx.x == 0:
        own = np.float64(0)
        for i in range(cuda.threadIdx.x, a.size, cuda.blockDim.x):
            d = (inside[i] if has_inside else one) * (a[i] - b[i])
            difference[i] = d
            size = abs(d)
            value = half * sigma2 * d * d if size * sigma2 < one else size - half / sigma2
            own += np.float64((outside[i] if has_outside else one) * value)
        total = block_sum(own, shared)
        if cuda.threadIdx.x == 0:
            loss[0] = total / items


@cuda_kernel
def smooth_l1_backward(difference, inside, outside, has_inside, has_outside, sigma2, weight, factor, dx):
    zero, one = dx.dtype.type(0), dx.dtype.type(1)
    for i in range(cuda.grid(1), dx.size, cuda.gridsize(1)):
        d = difference[i]
        # A NaN is its own slope.
        slope = sigma2 * d if abs(d) * sigma2 < one else one if d > zero else -one if d < zero else d
        weights = (inside[i] if has_inside else one) * (outside[i] if has_outside else one)
        dx[i] = weight[0] * factor * weights * slope
