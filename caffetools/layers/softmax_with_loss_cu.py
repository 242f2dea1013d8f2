"""SoftmaxWithLoss on the GPU; the mathematics is in `softmax_with_loss`.

The number of items that count and the norm stay on the device. A label that is no class adds nothing there; the error
follows when the host hears of it.
"""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
from numba import cuda

from caffetools.engine.gpu.device import current
from caffetools.engine.gpu.launch import THREADS, cuda_kernel, launch, launch_blocks
from caffetools.engine.gpu.memory import device_array
from caffetools.engine.gpu.reduce import block_max, block_sum
from caffetools.layers import softmax_cu
from caffetools.parts.loss_cu import fixed_norm, make_wrong_label

_TINY = float(np.finfo(np.float32).tiny)


def setup(layer, bottom, top):
    layer.softmax.gpu = SimpleNamespace()
    # The norm of the last batch, which backward divides by.
    layer.gpu.norm = device_array(current(), 1, layer.dtype)


def reshape(layer, bottom, top):
    layer.gpu.fixed_norm = fixed_norm(layer.normalization, layer.outer, layer.inner)
    make_wrong_label(layer, layer.classes)


def forward(layer, bottom, top):
    if layer.targets is not None:
        layer.forward(bottom, top)  # weighted or smoothed: on the host
        return
    gpu = layer.gpu
    softmax_cu.softmax(layer.softmax, bottom[0].gpu_data, layer.prob.mutable_gpu_data)
    launch_blocks(
        cross_entropy,
        1,
        THREADS,
        layer.prob.gpu_data,
        bottom[1].gpu_data,
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
    if layer.targets is not None:
        layer.backward(top, propagate_down, bottom)
        return
    layer.refuse_label_gradient(propagate_down)
    if propagate_down[0]:
        dx = bottom[0].mutable_gpu_diff
        launch(
            cross_entropy_backward,
            dx.size,
            layer.prob.gpu_data,
            bottom[1].gpu_data,
            layer.classes,
            layer.inner,
            layer.has_ignore_label,
            layer.ignore_label,
            top[0].gpu_diff,
            layer.gpu.norm,
            dx,
        )


@cuda_kernel
def cross_entropy(
    prob, labels, classes, inner, has_ignore_label, ignore_label, fixed_norm, loss, norm, wrong
):
    """loss[0] = -sum log p_label / norm, by the first block; norm[0] = fixed_norm, or the items that count for 0.

    wrong: (1 + index, value) of a label that is no class, or 0.
    """
    shared = cuda.shared.array(THREADS, np.float64)
    thread = cuda.threadIdx.x
    if cuda.blockIdx.x == 0:
        smallest = prob.dtype.type(_TINY)
        total, valid, bad = np.float64(0), np.float64(0), np.float64(0)
        for item in range(thread, labels.size, cuda.blockDim.x):
            label = labels[item]
            # Comparisons of the float, so that a NaN is refused as well.
            known = label > -1 and label < classes
            index = int(label) if known else -1
            if has_ignore_label and label == label and int(label) == ignore_label:
                continue
            if not known:
                bad = np.float64(item + 1)
                continue
            p = prob[(item // inner * classes + index) * inner + item % inner]
            # Written so that a NaN is not taken for a small p.
            total -= math.log(smallest if p < smallest else p)
            valid += 1
        total, valid, bad = block_sum(total, shared), block_sum(valid, shared), block_max(bad, shared)
        if thread == 0:
            divisor = max(np.float64(1), valid) if fixed_norm == 0 else np.float64(fixed_norm)
            norm[0] = divisor
            loss[0] = total / divisor
            wrong[0] = bad
            if bad > 0:
                wrong[1] = labels[int(bad) - 1]


@cuda_kernel
def cross_entropy_backward(
    prob, labels, classes, inner, has_ignore_label, ignore_label, weight, norm, dx
):
    zero, one = prob.dtype.type(0), prob.dtype.type(1)
    factor = weight[0] / norm[0]
    for i in range(cuda.grid(1), dx.size, cuda.gridsize(1)):
        label = int(labels[i // (classes * inner) * inner + i % inner])
        if has_ignore_label and label == ignore_label:
            dx[i] = zero
        else:
            dx[i] = (prob[i] - (one if label == i // inner % classes else zero)) * factor
