"""Eltwise on the GPU; the mathematics is in `eltwise`."""

from __future__ import annotations

import numpy as np
from numba import cuda

from caffetools.engine.gpu import vector
from caffetools.engine.gpu.device import current
from caffetools.engine.gpu.launch import cuda_kernel, launch
from caffetools.engine.gpu.memory import device_array
from caffetools.layers.eltwise import MAX, PROD, SUM


def setup(layer, bottom, top):
    layer.gpu.combine, layer.gpu.gradient = {
        SUM: (_sum, _sum_gradient),
        PROD: (_product, _product_gradient),
        MAX: (_maximum, _maximum_gradient),
    }[layer.operation]


def reshape(layer, bottom, top):
    if layer.operation == MAX:
        # The index of the bottom that had the largest value, for each element.
        layer.gpu.winner = device_array(current(), bottom[0].count, np.int32)


def forward(layer, bottom, top):
    xs = [blob.gpu_data for blob in bottom]
    layer.gpu.combine(layer, xs, top[0].mutable_gpu_data)


def backward(layer, top, propagate_down, bottom):
    # Bottom 0 comes last: in place its diff is the top's.
    for i in reversed(range(len(bottom))):
        if propagate_down[i]:
            layer.gpu.gradient(layer, i, top[0], bottom)


def _sum(layer, xs, y):
    one, c = layer.dtype.type(1), layer.coefficients
    launch(weighted_sum, y.size, xs[0], c[0], xs[1], c[1], y)
    for x, factor in zip(xs[2:], c[2:], strict=True):
        launch(weighted_sum, y.size, y, one, x, factor, y)


def _sum_gradient(layer, i, top, bottom):
    if bottom[i] is top and layer.coefficients[i] == 1:
        return
    dy = top.gpu_diff
    dx = bottom[i].mutable_gpu_diff
    launch(vector.scale, dy.size, layer.coefficients[i], dy, dx)


def _product(layer, xs, y):
    one = layer.dtype.type(1)
    launch(vector.multiply, y.size, one, xs[0], xs[1], y)
    for x in xs[2:]:
        launch(vector.multiply, y.size, one, y, x, y)


def _product_gradient(layer, i, top, bottom):
    one, dy = layer.dtype.type(1), top.gpu_diff
    dx = bottom[i].mutable_gpu_diff
    if not layer.stable:
        launch(quotient, dy.size, dy, top.gpu_data, bottom[i].gpu_data, dx)
        return
    for x in (blob.gpu_data for j, blob in enumerate(bottom) if j != i):
        launch(vector.multiply, dy.size, one, dy, x, dx)
        dy = dx


def _maximum(layer, xs, y):
    winner = layer.gpu.winner
    launch(larger_of_two, y.size, xs[0], xs[1], y, winner)
    for i, x in enumerate(xs[2:], 2):
        launch(larger_of_more, y.size, x, np.int32(i), y, winner)


def _maximum_gradient(layer, i, top, bottom):
    dy = top.gpu_diff
    launch(maximum_gradient, dy.size, dy, layer.gpu.winner, np.int32(i), bottom[i].mutable_gpu_diff)


@cuda_kernel
def weighted_sum(a, a_factor, b, b_factor, y):
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        y[i] = a_factor * a[i] + b_factor * b[i]


@cuda_kernel
def quotient(dy, y, x, dx):
    for i in range(cuda.grid(1), dy.size, cuda.gridsize(1)):
        dx[i] = dy[i] * (y[i] / x[i])


@cuda_kernel
def larger_of_two(a, b, y, winner):
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        # A NaN wins, so that it stays visible.
        first = a[i] > b[i] or a[i] != a[i]
        y[i] = a[i] if first else b[i]
        winner[i] = 0 if first else 1


@cuda_kernel
def larger_of_more(x, index, y, winner):
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        if x[i] > y[i] or x[i] != x[i]:
            y[i] = x[i]
            winner[i] = index


@cuda_kernel
def maximum_gradient(dy, winner, index, dx):
    zero = dy.dtype.type(0)
    for i in range(cuda.grid(1), dy.size, cuda.gridsize(1)):
        dx[i] = dy[i] if winner[i] == index else zero
