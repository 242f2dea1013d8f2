"""HingeLoss on the GPU; the mathematics is in `hinge_loss`."""

from __future__ import annotations

import numpy as np
from numba import cuda

from caffetools.engine.gpu.launch import THREADS, cuda_device, cuda_kernel, launch, launch_blocks
from caffetools.engine.gpu.reduce import block_max, block_sum
from caffetools.parts.loss_cu import make_wrong_label


def reshape(layer, bottom, top):
    make_wrong_label(layer, layer.margins.shape[1])


def forward(layer, bottom, top):
    rows, classes = layer.margins.shape
    x, labels, loss = bottom[0].gpu_data, bottom[1].gpu_data, top[0].mutable_gpu_data
    launch_blocks(hinge_forward, 1, THREADS, x, labels, classes, rows, layer.squared, loss, layer.gpu.wrong)
    layer.gpu.wrong_label.send()


def backward(layer, top, propagate_down, bottom):
    layer.refuse_label_gradient(propagate_down)
    if propagate_down[0]:
        rows, classes = layer.margins.shape
        x, labels, weight = bottom[0].gpu_data, bottom[1].gpu_data, top[0].gpu_diff
        dx = bottom[0].mutable_gpu_diff
        launch(hinge_backward, dx.size, x, labels, classes, rows, layer.squared, weight, dx)


@cuda_device
def margin(x, is_label):
    """max(0, 1 - t x), where t is 1 for the label's class, else -1; a NaN stays one."""
    one = type(x)(1)
    m = one - x if is_label else one + x
    return type(x)(0) if m < type(x)(0) else m


@cuda_kernel
def hinge_forward(x, labels, classes, rows, squared, loss, wrong):
    """loss[0] by the first block; wrong: (1 + index, value) of a label that is no class, or 0."""
    shared = cuda.shared.array(THREADS, np.float64)
    thread, threads = cuda.threadIdx.x, cuda.blockDim.x
    if cuda.blockIdx.x == 0:
        own, bad = np.float64(0), np.float64(0)
        for i in range(thread, x.size, threads):
            m = margin(x[i], labels[i // classes] == i % classes)
            own += m * m if squared else m
        for row in range(thread, rows, threads):
            if not (labels[row] > -1 and labels[row] < classes):
                bad = np.float64(row + 1)
        total, bad = block_sum(own, shared), block_max(bad, shared)
        if thread == 0:
            loss[0] = total / max(1, rows)
            wrong[0] = bad
            if bad > 0:
                wrong[1] = labels[int(bad) - 1]


@cuda_kernel
def hinge_backward(x, labels, classes, rows, squared, weight, dx):
    zero, one, two = x.dtype.type(0), x.dtype.type(1), x.dtype.type(2)
    factor = weight[0] / x.dtype.type(rows)
    for i in range(cuda.grid(1), dx.size, cuda.gridsize(1)):
        is_label = labels[i // classes] == i % classes
        m = margin(x[i], is_label)
        # With L1 the sign of the margin counts, which is a NaN's where it is one.
        slope = two * m if squared else one if m > zero else m
        dx[i] = -factor * slope if is_label else factor * slope
