"""Concat on the GPU; the mathematics is in `concat`."""

from __future__ import annotations

from numba import cuda

from caffetools.engine.gpu.index import quotient
from caffetools.engine.gpu.launch import cuda_kernel, launch


def forward(layer, bottom, top):
    y = top[0].mutable_gpu_data
    for blob, first, width in zip(bottom, layer.firsts, layer.widths, strict=True):
        launch(insert_columns, blob.count, blob.gpu_data, width, layer.matrix[1], first, y)


def backward(layer, top, propagate_down, bottom):
    dy = top[0].gpu_diff
    for blob, first, width, wanted in zip(bottom, layer.firsts, layer.widths, propagate_down, strict=True):
        if wanted:
            launch(extract_columns, blob.count, dy, width, layer.matrix[1], first, blob.mutable_gpu_diff)


@cuda_kernel
def insert_columns(source, width, columns, first, matrix):
    """Write a matrix of `width` columns over those of a wider one from `first` on."""
    for i in range(cuda.grid(1), source.size, cuda.gridsize(1)):
        row = quotient(i, width)
        matrix[row * columns + first + i - row * width] = source[i]


@cuda_kernel
def extract_columns(matrix, width, columns, first, target):
    """Write the columns of a matrix from `first` on to one of `width` columns."""
    for i in range(cuda.grid(1), target.size, cuda.gridsize(1)):
        row = quotient(i, width)
        target[i] = matrix[row * columns + first + i - row * width]
