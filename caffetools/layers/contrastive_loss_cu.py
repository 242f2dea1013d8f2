"""ContrastiveLoss on the GPU; the mathematics is in `contrastive_loss`. A thread looks after each pair."""

from __future__ import annotations

import math

import numpy as np
from numba import cuda

from caffetools.engine.gpu.device import current
from caffetools.engine.gpu.launch import THREADS, cuda_kernel, launch, launch_blocks
from caffetools.engine.gpu.memory import device_array
from caffetools.engine.gpu.reduce import block_sum


def reshape(layer, bottom, top):
    pairs = layer.difference.shape[0]
    # The loss of each pair, and what its difference is multiplied by in the gradient of a.
    layer.gpu.losses, layer.gpu.slopes = (device_array(current(), pairs, layer.dtype) for _ in range(2))


def forward(layer, bottom, top):
    gpu, (pairs, size) = layer.gpu, layer.difference.shape
    a, b, alike = (blob.gpu_data for blob in bottom)
    launch(pair_losses, pairs, a, b, alike, size, layer.margin, layer.legacy, gpu.losses, gpu.slopes)
    launch_blocks(half_mean, 1, THREADS, gpu.losses, top[0].mutable_gpu_data)


def backward(layer, top, propagate_down, bottom):
    if propagate_down[2]:
        layer.backward(top, propagate_down, bottom)  # which refuses
    gpu, (pairs, size) = layer.gpu, layer.difference.shape
    a, b = bottom[0].gpu_data, bottom[1].gpu_data
    for blob, wanted, sign in zip(bottom, propagate_down, (1, -1), strict=False):
        if wanted:
            factor, dx = layer.dtype.type(sign / pairs), blob.mutable_gpu_diff
            launch(contrastive_backward, dx.size, a, b, gpu.slopes, size, top[0].gpu_diff, factor, dx)


@cuda_kernel
def pair_losses(a, b, alike, size, margin, legacy, losses, slopes):
    zero, one = a.dtype.type(0), a.dtype.type(1)
    small = a.dtype.type(1e-4)
    for pair in range(cuda.grid(1), losses.size, cuda.gridsize(1)):
        squares = zero
        for i in range(pair * size, (pair + 1) * size):
            d = a[i] - b[i]
            squares += d * d
        # A label counts as an integer: 0.5 is unlike.
        label = alike[pair]
        if label == label and int(label) != 0:
            losses[pair] = squares
            slopes[pair] = one
        else:
            distance = squares if legacy else math.sqrt(squares)
            gap = margin - distance
            if gap < zero:
                gap = zero
            losses[pair] = gap if legacy else gap * gap
            if legacy:
                slopes[pair] = -one if gap > zero else zero
            else:
                slopes[pair] = -gap / (distance + small)


@cuda_kernel
def half_mean(losses, loss):
    """loss[0] = sum of the losses / (2 N), by the first block."""
    shared = cuda.shared.array(THREADS, np.float64)
    if cuda.blockIdx.x == 0:
        own = np.float64(0)
        for i in range(cuda.threadIdx.x, losses.size, cuda.blockDim.x):
            own += losses[i]
        total = block_sum(own, shared)
        if cuda.threadIdx.x == 0:
            loss[0] = total / max(1, 2 * losses.size)


@cuda_kernel
def contrastive_backward(a, b, slopes, size, weight, factor, dx):
    for i in range(cuda.grid(1), dx.size, cuda.gridsize(1)):
        dx[i] = weight[0] * factor * slopes[i // size] * (a[i] - b[i])
