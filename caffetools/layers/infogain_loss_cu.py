"""InfogainLoss on the GPU; the mathematics is in `infogain_loss`."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
from numba import cuda

from caffetools.engine.gpu.device import current
from caffetools.engine.gpu.launch import THREADS, cuda_kernel, launch, launch_blocks
from caffetools.engine.gpu.memory import device_array, to_device
from caffetools.engine.gpu.reduce import block_max, block_sum
from caffetools.layers import softmax_cu
from caffetools.parts.loss import LOG_THRESHOLD
from caffetools.parts.loss_cu import fixed_norm, make_wrong_label


def setup(layer, bottom, top):
    layer.softmax.gpu = SimpleNamespace()
    layer.gpu.norm = device_array(current(), 1, layer.dtype)
    layer.gpu.matrix = None if layer.matrix is None else to_device(current(), layer.matrix)


def reshape(layer, bottom, top):
    layer.gpu.fixed_norm = fixed_norm(layer.normalization, layer.outer, layer.inner)
    layer.gpu.row_sums = device_array(current(), layer.classes, layer.dtype)
    make_wrong_label(layer, layer.classes)


def forward(layer, bottom, top):
    gpu = layer.gpu
    softmax_cu.softmax(layer.softmax, bottom[0].gpu_data, layer.prob.mutable_gpu_data)
    launch_blocks(
        infogain,
        1,
        THREADS,
        layer.prob.gpu_data,
        bottom[1].gpu_data,
        _matrix(layer, bottom),
        layer.classes,
        layer.inner,
        layer.has_ignore_label,
        layer.ignore_label,
        gpu.fixed_norm,
        top[0].mutable_gpu_data,
        gpu.norm,
        gpu.wrong,
    )
    gpu.wrong_label.send()


def backward(layer, top, propagate_down, bottom):
    if any(propagate_down[1:]):
        layer.backward(top, propagate_down, bottom)  # which refuses
    if propagate_down[0]:
        gpu, matrix, dx = layer.gpu, _matrix(layer, bottom), bottom[0].mutable_gpu_diff
        launch(row_sums, layer.classes, matrix, gpu.row_sums)
        launch(
            infogain_backward,
            dx.size,
            layer.prob.gpu_data,
            bottom[1].gpu_data,
            matrix,
            gpu.row_sums,
            layer.inner,
            layer.has_ignore_label,
            layer.ignore_label,
            top[0].gpu_diff,
            gpu.norm,
            dx,
        )


def _matrix(layer, bottom):
    return bottom[2].gpu_data if layer.matrix is None else layer.gpu.matrix


@cuda_kernel
def infogain(
    prob, labels, matrix, classes, inner, has_ignore_label, ignore_label, fixed_norm, loss, norm, wrong
):
    """loss[0] by the first block; norm[0] = fixed_norm, or the items that count for 0.

    wrong: (1 + index, value) of a label that is no class, or 0.
    """
    shared = cuda.shared.array(THREADS, np.float64)
    smallest = prob.dtype.type(LOG_THRESHOLD)
    if cuda.blockIdx.x == 0:
        own, valid, bad = np.float64(0), np.float64(0), np.float64(0)
        for item in range(cuda.threadIdx.x, labels.size, cuda.blockDim.x):
            label = labels[item]
            if has_ignore_label and label == label and int(label) == ignore_label:
                continue
            # Comparisons of the float, so that a NaN is refused as well.
            if not (label > -1 and label < classes):
                bad = np.float64(item + 1)
                continue
            row = int(label) * classes
            first = item // inner * classes * inner + item % inner
            for c in range(classes):
                p = prob[first + c * inner]
                # Written so that a NaN is not taken for a small p.
                own -= matrix[row + c] * math.log(smallest if p < smallest else p)
            valid += 1
        total, valid, bad = block_sum(own, shared), block_sum(valid, shared), block_max(bad, shared)
        if cuda.threadIdx.x == 0:
            divisor = max(np.float64(1), valid) if fixed_norm == 0 else np.float64(fixed_norm)
            norm[0] = divisor
            loss[0] = total / divisor
            wrong[0] = bad
            if bad > 0:
                wrong[1] = labels[int(bad) - 1]


@cuda_kernel
def row_sums(matrix, sums):
    classes = sums.size
    for row in range(cuda.grid(1), classes, cuda.gridsize(1)):
        total = matrix.dtype.type(0)
        for c in range(classes):
            total += matrix[row * classes + c]
        sums[row] = total


@cuda_kernel
def infogain_backward(
    prob, labels, matrix, row_sums, inner, has_ignore_label, ignore_label, weight, norm, dx
):
    classes = row_sums.size
    zero = prob.dtype.type(0)
    factor = weight[0] / norm[0]
    for i in range(cuda.grid(1), dx.size, cuda.gridsize(1)):
        value = labels[i // (classes * inner) * inner + i % inner]
        known = value > -1 and value < classes
        label = int(value) if known else 0
        if not known or (has_ignore_label and label == ignore_label):
            dx[i] = zero
        else:
            gain = matrix[label * classes + i // inner % classes]
            dx[i] = factor * (prob[i] * row_sums[label] - gain)
