"""Embed on the GPU; the mathematics is in `embed`."""

from __future__ import annotations

import numpy as np
from numba import cuda

from caffetools.engine.gpu import vector
from caffetools.engine.gpu.device import current
from caffetools.engine.gpu.lag import Lagged
from caffetools.engine.gpu.launch import THREADS, cuda_kernel, launch, launch_blocks
from caffetools.engine.gpu.memory import device_array, zero
from caffetools.engine.gpu.reduce import block_max
from caffetools.layers.embed import refuse_index


def setup(layer, bottom, top):
    gpu = layer.gpu
    gpu.wrong = device_array(current(), 2, np.float64)
    zero(current(), gpu.wrong)

    def look(values):
        if values[0]:
            refuse_index(layer, int(values[0]) - 1, values[1])

    gpu.wrong_index = Lagged(current(), gpu.wrong, look)


def forward(layer, bottom, top):
    gpu, indices, weights = layer.gpu, bottom[0].gpu_data, layer.blobs[0].gpu_data
    y = top[0].mutable_gpu_data
    launch(gather, y.size, indices, weights, layer.num_output, y)
    if layer.bias_term:
        launch(vector.add_row, y.size, layer.blobs[1].gpu_data, y)
    launch_blocks(find_wrong, 1, THREADS, indices, weights.size // layer.num_output, gpu.wrong)
    gpu.wrong_index.send()


def backward(layer, top, propagate_down, bottom):
    if propagate_down[0]:
        layer.backward(top, propagate_down, bottom)  # which refuses
    dy = top[0].gpu_diff
    if layer.param_propagate_down[0]:
        weights = layer.blobs[0].mutable_gpu_diff
        launch(scatter_add, weights.size, bottom[0].gpu_data, dy, layer.num_output, weights)
    if layer.bias_term and layer.param_propagate_down[1]:
        bias = layer.blobs[1].mutable_gpu_diff
        launch(vector.add_column_sums, bias.size, dy, bottom[0].count, bias)


@cuda_kernel
def gather(indices, weights, width, y):
    """Copy a row of `weights` for each index, and zeros for one without a row."""
    rows = weights.size // width
    zero = weights.dtype.type(0)
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        index = indices[i // width]
        y[i] = weights[int(index) * width + i % width] if index > -1 and index < rows else zero


@cuda_kernel
def scatter_add(indices, dy, width, d_weights):
    """Add each item's gradient to its row, in the order of the items: a thread looks after one weight."""
    for i in range(cuda.grid(1), d_weights.size, cuda.gridsize(1)):
        row, column = i // width, i % width
        total = dy.dtype.type(0)
        for item in range(indices.size):
            index = indices[item]
            if index == index and int(index) == row:
                total += dy[item * width + column]
        d_weights[i] += total


@cuda_kernel
def find_wrong(indices, rows, wrong):
    """wrong: (1 + position, value) of an index without a row, or 0."""
    shared = cuda.shared.array(THREADS, np.float64)
    if cuda.blockIdx.x == 0:
        bad = np.float64(0)
        for item in range(cuda.threadIdx.x, indices.size, cuda.blockDim.x):
            if not (indices[item] > -1 and indices[item] < rows):
                bad = np.float64(item + 1)
        bad = block_max(bad, shared)
        if cuda.threadIdx.x == 0:
            wrong[0] = bad
            if bad > 0:
                wrong[1] = indices[int(bad) - 1]
