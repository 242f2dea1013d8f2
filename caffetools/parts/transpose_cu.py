"""Arrays with their axes in another order, on the GPU."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
from numba import cuda

from caffetools.engine.gpu.device import current
from caffetools.engine.gpu.launch import cuda_kernel, launch
from caffetools.engine.gpu.memory import to_device


class Transpose:
    """Axis k of the result is axis order[k] of an array of this shape."""

    def __init__(self, shape: Sequence[int], order: Sequence[int]):
        steps = [prod(shape[axis + 1 :]) for axis in range(len(shape))]
        target = [shape[axis] for axis in order]
        table = [[prod(target[k + 1 :]), steps[axis]] for k, axis in enumerate(order)]
        self._table = to_device(current(), np.array(table, np.int64).reshape(-1))

    def apply(self, x, y) -> None:
        """Write the transposed x into y."""
        launch(transpose, y.size, x, self._table, y)

    def restore(self, y, x) -> None:
        """Write into x what y is the transposed of."""
        launch(transpose_back, y.size, y, self._table, x)


@cuda_kernel
def transpose(x, table, y):
    """The table has, for each axis of y, its step in y and in x."""
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        rest, place = i, 0
        for k in range(0, table.size, 2):
            place += rest // table[k] * table[k + 1]
            rest %= table[k]
        y[i] = x[place]


@cuda_kernel
def transpose_back(y, table, x):
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        rest, place = i, 0
        for k in range(0, table.size, 2):
            place += rest // table[k] * table[k + 1]
            rest %= table[k]
        x[place] = y[i]
