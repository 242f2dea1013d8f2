"""Filter on the GPU; the mathematics is in `filter`. The host needs the selector, which decides the tops' shapes."""

from __future__ import annotations

import numpy as np
from numba import cuda

from caffetools.engine.gpu.device import current
from caffetools.engine.gpu.launch import cuda_kernel, launch
from caffetools.engine.gpu.memory import zero


def setup(layer, bottom, top):
    layer.gpu.selected = current().storage(np.int64)


def reshape(layer, bottom, top):
    # Room for all rows, so that another choice does not need more.
    layer.gpu.selected.at_least(bottom[-1].count)[: layer.selected.size] = layer.selected


def forward(layer, bottom, top):
    selected = layer.gpu.selected.read_device(bottom[-1].count)
    for above, below in zip(top, bottom[:-1], strict=True):
        x, y = below.gpu_data, above.mutable_gpu_data
        launch(take_rows, y.size, x, selected, below.count_from(1), y)


def backward(layer, top, propagate_down, bottom):
    if propagate_down[-1]:
        layer.backward(top, propagate_down, bottom)  # which refuses
    selected = layer.gpu.selected.read_device(bottom[-1].count)
    for above, below, wanted in zip(top, bottom[:-1], propagate_down[:-1], strict=True):
        if wanted:
            dy, dx = above.gpu_diff, below.mutable_gpu_diff
            zero(current(), dx)
            launch(put_rows, dy.size, dy, selected, below.count_from(1), dx)


@cuda_kernel
def take_rows(x, selected, width, y):
    """Row r of y is row selected_r of x."""
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        y[i] = x[selected[i // width] * width + i % width]


@cuda_kernel
def put_rows(y, selected, width, x):
    """Row selected_r of x becomes row r of y."""
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        x[selected[i // width] * width + i % width] = y[i]
