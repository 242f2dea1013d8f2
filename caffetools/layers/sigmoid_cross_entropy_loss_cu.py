"""SigmoidCrossEntropyLoss on the GPU; the mathematics is in `sigmoid_cross_entropy_loss`."""

from __future__ import annotations

import math

import numpy as np
from numba import cuda

from caffetools.engine.gpu.device import current
from caffetools.engine.gpu.exponential import sigmoid
from caffetools.engine.gpu.launch import THREADS, cuda_kernel, launch, launch_blocks
from caffetools.engine.gpu.memory import device_array
from caffetools.engine.gpu.reduce import block_sum
from caffetools.parts.loss_cu import fixed_norm


def setup(layer, bottom, top):
    layer.gpu.norm = device_array(current(), 1, layer.dtype)


def reshape(layer, bottom, top):
    layer.gpu.fixed_norm = fixed_norm(layer.normalization, layer.rows, layer.columns)


def forward(layer, bottom, top):
    launch_blocks(
        logistic_loss,
        1,
        THREADS,
        bottom[0].gpu_data,
        bottom[1].gpu_data,
        layer.has_ignore_label,
        layer.ignore_label,
        layer.gpu.fixed_norm,
        top[0].mutable_gpu_data,
        layer.gpu.norm,
    )


def backward(layer, top, propagate_down, bottom):
    layer.refuse_label_gradient(propagate_down)
    if propagate_down[0]:
        dx = bottom[0].mutable_gpu_diff
        launch(
            logistic_loss_backward,
            dx.size,
            bottom[0].gpu_data,
            bottom[1].gpu_data,
            layer.has_ignore_label,
            layer.ignore_label,
            top[0].gpu_diff,
            layer.gpu.norm,
            dx,
        )


@cuda_kernel
def logistic_loss(x, targets, has_ignore_label, ignore_label, fixed_norm, loss, norm):
    """loss[0] by the first block; norm[0] = fixed_norm, or the elements that count for 0."""
    shared = cuda.shared.array(THREADS, np.float64)
    zero, one = x.dtype.type(0), x.dtype.type(1)
    if cuda.blockIdx.x == 0:
        own, valid = np.float64(0), np.float64(0)
        for i in range(cuda.threadIdx.x, x.size, cuda.blockDim.x):
            v, t = x[i], targets[i]
            if has_ignore_label and t == t and int(t) == ignore_label:
                continue
            own += math.log1p(math.exp(-abs(v))) - v * (t - (one if v >= zero else zero))
            valid += 1
        total, valid = block_sum(own, shared), block_sum(valid, shared)
        if cuda.threadIdx.x == 0:
            divisor = max(np.float64(1), valid) if fixed_norm == 0 else np.float64(fixed_norm)
            norm[0] = divisor
            loss[0] = total / divisor


@cuda_kernel
def logistic_loss_backward(x, targets, has_ignore_label, ignore_label, weight, norm, dx):
    zero = x.dtype.type(0)
    factor = weight[0] / norm[0]
    for i in range(cuda.grid(1), dx.size, cuda.gridsize(1)):
        t = targets[i]
        ignored = has_ignore_label and t == t and int(t) == ignore_label
        dx[i] = zero if ignored else factor * (sigmoid(x[i]) - t)
