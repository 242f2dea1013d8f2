"""The plain operations on flat arrays of the device."""

from __future__ import annotations

import numpy as np
from numba import cuda

from caffetools.engine.gpu.device import current
from caffetools.engine.gpu.launch import THREADS, cuda_kernel, launch_blocks
from caffetools.engine.gpu.reduce import block_sum


def copy(source, target) -> None:
    """Copy all of `source` to `target`, an array of the same size, in the order of the compute stream."""
    if target.size:
        target.copy_to_device(source, stream=current().stream)


def dot(x, y, result) -> None:
    """Write the sum of x_i y_i into `result[0]`; one block, for arrays of no more than some thousands."""
    launch_blocks(sum_of_products, 1, THREADS, x, y, result)


@cuda_kernel
def fill(value, y):
    """y_i = value"""
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        y[i] = value


@cuda_kernel
def add(a, b, y):
    """y_i = a_i + b_i"""
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        y[i] = a[i] + b[i]


@cuda_kernel
def subtract(a, b, y):
    """y_i = a_i - b_i"""
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        y[i] = a[i] - b[i]


@cuda_kernel
def scale(factor, x, y):
    """y_i = factor x_i"""
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        y[i] = factor * x[i]


@cuda_kernel
def add_multiple(factor, x, y):
    """y_i += factor x_i"""
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        y[i] += factor * x[i]


@cuda_kernel
def sum_of_products(x, y, result):
    """result[0] = sum x_i y_i, by the first block."""
    shared = cuda.shared.array(THREADS, np.float64)
    if cuda.blockIdx.x == 0:
        own = np.float64(0)
        for i in range(cuda.threadIdx.x, x.size, cuda.blockDim.x):
            own += np.float64(x[i]) * np.float64(y[i])
        total = block_sum(own, shared)
        if cuda.threadIdx.x == 0:
            result[0] = total


@cuda_kernel
def add_row(row, y):
    """y_(m n) += row_n: adds a row to every row of a matrix."""
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        y[i] += row[i % row.size]


@cuda_kernel
def add_column_sums(x, rows, sums):
    """sums_n += sum over m of x_(m n), the rows in their order."""
    columns = sums.size
    for n in range(cuda.grid(1), columns, cuda.gridsize(1)):
        total = x.dtype.type(0)
        for m in range(rows):
            total += x[m * columns + n]
        sums[n] += total


@cuda_kernel
def multiply(factor, a, b, y):
    """y_i = factor a_i b_i"""
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        y[i] = factor * a[i] * b[i]
