"""Accuracy on the GPU; the mathematics is in `accuracy`. A thread judges each item, a block counts."""

from __future__ import annotations

import numpy as np
from numba import cuda

from caffetools.engine.gpu.device import current
from caffetools.engine.gpu.launch import THREADS, cuda_kernel, launch, launch_blocks
from caffetools.engine.gpu.memory import device_array
from caffetools.engine.gpu.reduce import block_max, block_sum
from caffetools.parts.loss_cu import make_wrong_label

#: What an item may be: ignored, of a label that is no class, wrong or right; the last two count.
IGNORED, NO_CLASS, WRONG, RIGHT = range(4)


def reshape(layer, bottom, top):
    layer.gpu.verdicts = device_array(current(), bottom[1].count, np.int32)
    make_wrong_label(layer, layer.classes)


def forward(layer, bottom, top):
    gpu, labels = layer.gpu, bottom[1].gpu_data
    launch(
        judge,
        labels.size,
        bottom[0].gpu_data,
        labels,
        layer.classes,
        layer.inner,
        layer.top_k,
        layer.has_ignore_label,
        layer.ignore_label,
        gpu.verdicts,
    )
    launch_blocks(count_right, 1, THREADS, labels, gpu.verdicts, top[0].mutable_gpu_data, gpu.wrong)
    if len(top) > 1:
        share = top[1].mutable_gpu_data
        launch_blocks(count_right_of_class, share.size, THREADS, labels, gpu.verdicts, share)
    gpu.wrong_label.send()


@cuda_kernel
def judge(scores, labels, classes, inner, top_k, has_ignore_label, ignore_label, verdicts):
    for item in range(cuda.grid(1), labels.size, cuda.gridsize(1)):
        label = labels[item]
        # Comparisons of the float, so that a NaN is refused as well.
        known = label > -1 and label < classes
        if has_ignore_label and label == label and int(label) == ignore_label:
            verdicts[item] = IGNORED
        elif not known:
            verdicts[item] = NO_CLASS
        else:
            first = item // inner * classes * inner + item % inner
            score = scores[first + int(label) * inner]
            better = -1  # the label's own score counts as well, unless it is NaN
            for c in range(classes):
                if scores[first + c * inner] >= score:
                    better += 1
            verdicts[item] = RIGHT if better < top_k else WRONG


@cuda_kernel
def count_right(labels, verdicts, share, wrong):
    """share[0] = right items / items that count; wrong: (1 + index, value) of a label that is no class, or 0."""
    shared = cuda.shared.array(THREADS, np.float64)
    if cuda.blockIdx.x == 0:
        right, total, bad = np.float64(0), np.float64(0), np.float64(0)
        for item in range(cuda.threadIdx.x, labels.size, cuda.blockDim.x):
            verdict = verdicts[item]
            if verdict == NO_CLASS:
                bad = np.float64(item + 1)
            elif verdict != IGNORED:
                total += 1
                if verdict == RIGHT:
                    right += 1
        right, total, bad = block_sum(right, shared), block_sum(total, shared), block_max(bad, shared)
        if cuda.threadIdx.x == 0:
            share[0] = right / max(np.float64(1), total)
            wrong[0] = bad
            if bad > 0:
                wrong[1] = labels[int(bad) - 1]


@cuda_kernel
def count_right_of_class(labels, verdicts, share):
    shared = cuda.shared.array(THREADS, np.float64)
    thread, threads = cuda.threadIdx.x, cuda.blockDim.x
    for c in range(cuda.blockIdx.x, share.size, cuda.gridDim.x):
        right, total = np.float64(0), np.float64(0)
        for item in range(thread, labels.size, threads):
            verdict = verdicts[item]
            if verdict >= WRONG and int(labels[item]) == c:
                total += 1
                if verdict == RIGHT:
                    right += 1
        right, total = block_sum(right, shared), block_sum(total, shared)
        if thread == 0:
            share[c] = right / max(np.float64(1), total)
