"""Interp on the GPU; the mathematics is in `interp`. Gradients are gathered: each element of dx adds up its own."""

from __future__ import annotations

import numpy as np
from numba import cuda

from caffetools.engine.gpu.device import current
from caffetools.engine.gpu.launch import cuda_kernel, launch
from caffetools.engine.gpu.memory import to_device


def reshape(layer, bottom, top):
    gpu, sizes = layer.gpu, bottom[0].shape[2:]
    gpu.rows, gpu.columns = (_tables(axis) for axis in (layer.rows, layer.columns))
    gpu.row_users, gpu.column_users = (
        _users(axis, size) for axis, size in zip((layer.rows, layer.columns), sizes, strict=True)
    )
    gpu.sizes = *sizes, *top[0].shape[2:]


def _tables(axis):
    """Return on the device the two neighbours of each place, and its share of the second."""
    lower, upper, share = axis
    return tuple(to_device(current(), values) for values in (lower, upper, share))


def _users(axis, size):
    """Return on the device, for each element, the first place that reads it and the one after the last."""
    lower, _, _ = axis
    # The neighbours of a place are `lower` and the next, or `lower` twice; they do not fall.
    elements = np.arange(size)
    first, last = np.searchsorted(lower, elements - 1, "left"), np.searchsorted(lower, elements, "right")
    return to_device(current(), np.stack([first, last], 1).reshape(-1).astype(np.int64))


def forward(layer, bottom, top):
    gpu, y = layer.gpu, top[0].mutable_gpu_data
    launch(interp_forward, y.size, bottom[0].gpu_data, *gpu.rows, *gpu.columns, *gpu.sizes, y)


def backward(layer, top, propagate_down, bottom):
    if propagate_down[0]:
        gpu, dx = layer.gpu, bottom[0].mutable_gpu_diff
        users = gpu.row_users, gpu.column_users
        launch(interp_backward, dx.size, top[0].gpu_diff, *gpu.rows, *gpu.columns, *users, *gpu.sizes, dx)


@cuda_kernel
def interp_forward(x, top, below, down, left, right, across, height, width, tall, wide, y):
    one = x.dtype.type(1)
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        row, column = i // wide % tall, i % wide
        plane = i // (tall * wide) * height * width
        upper, lower, v = plane + top[row] * width, plane + below[row] * width, down[row]
        u, a, b = across[column], left[column], right[column]
        above = (one - u) * x[upper + a] + u * x[upper + b]
        beneath = (one - u) * x[lower + a] + u * x[lower + b]
        y[i] = (one - v) * above + v * beneath


@cuda_kernel
def interp_backward(
    dy, top, below, down, left, right, across, row_users, column_users, height, width, tall, wide, dx
):
    zero, one = dy.dtype.type(0), dy.dtype.type(1)
    for i in range(cuda.grid(1), dx.size, cuda.gridsize(1)):
        h, w = i // width % height, i % width
        plane = i // (height * width) * tall * wide
        total = zero
        for row in range(row_users[2 * h], row_users[2 * h + 1]):
            v = down[row]
            by_row = (one - v if top[row] == h else zero) + (v if below[row] == h else zero)
            for column in range(column_users[2 * w], column_users[2 * w + 1]):
                u = across[column]
                by_column = (one - u if left[column] == w else zero) + (u if right[column] == w else zero)
                total += by_row * by_column * dy[plane + row * wide + column]
        dx[i] = total
