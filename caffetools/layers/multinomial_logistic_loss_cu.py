"""MultinomialLogisticLoss on the GPU; the mathematics is in `multinomial_logistic_loss`."""

from __future__ import annotations

import math

import numpy as np
from numba import cuda

from caffetools.engine.gpu.launch import THREADS, cuda_kernel, launch, launch_blocks
from caffetools.engine.gpu.reduce import block_max, block_sum
from caffetools.parts.loss import LOG_THRESHOLD
from caffetools.parts.loss_cu import make_wrong_label


def reshape(layer, bottom, top):
    make_wrong_label(layer, layer.shape[1])


def forward(layer, bottom, top):
    rows, classes = layer.shape
    p, labels, loss = bottom[0].gpu_data, bottom[1].gpu_data, top[0].mutable_gpu_data
    launch_blocks(log_loss, 1, THREADS, p, labels, classes, rows, loss, layer.gpu.wrong)
    layer.gpu.wrong_label.send()


def backward(layer, top, propagate_down, bottom):
    layer.refuse_label_gradient(propagate_down)
    if propagate_down[0]:
        rows, classes = layer.shape
        p, labels, weight = bottom[0].gpu_data, bottom[1].gpu_data, top[0].gpu_diff
        dp = bottom[0].mutable_gpu_diff
        launch(log_loss_backward, dp.size, p, labels, classes, rows, weight, dp)


@cuda_kernel
def log_loss(p, labels, classes, rows, loss, wrong):
    """loss[0] by the first block; wrong: (1 + index, value) of a label that is no class, or 0."""
    shared = cuda.shared.array(THREADS, np.float64)
    smallest = p.dtype.type(LOG_THRESHOLD)
    if cuda.blockIdx.x == 0:
        own, bad = np.float64(0), np.float64(0)
        for row in range(cuda.threadIdx.x, rows, cuda.blockDim.x):
            label = labels[row]
            if label > -1 and label < classes:
                v = p[row * classes + int(label)]
                # Written so that a NaN is not taken for a small p.
                own -= math.log(smallest if v < smallest else v)
            else:
                bad = np.float64(row + 1)
        total, bad = block_sum(own, shared), block_max(bad, shared)
        if cuda.threadIdx.x == 0:
            loss[0] = total / max(1, rows)
            wrong[0] = bad
            if bad > 0:
                wrong[1] = labels[int(bad) - 1]


@cuda_kernel
def log_loss_backward(p, labels, classes, rows, weight, dp):
    zero, smallest = p.dtype.type(0), p.dtype.type(LOG_THRESHOLD)
    for i in range(cuda.grid(1), dp.size, cuda.gridsize(1)):
        label = labels[i // classes]
        if label == label and int(label) == i % classes:
            v = p[i]
            dp[i] = -weight[0] / (p.dtype.type(rows) * (smallest if v < smallest else v))
        else:
            dp[i] = zero
