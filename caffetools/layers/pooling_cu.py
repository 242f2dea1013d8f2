"""Pooling on the GPU; the mathematics is in `pooling`.

A thread computes an output, and backward an input: it gathers from all windows that hold it, in their order, so that
the sums do not depend on the grid.
"""

from __future__ import annotations

import numpy as np
from numba import cuda

from caffetools.engine.gpu.device import current
from caffetools.engine.gpu.index import quotient
from caffetools.engine.gpu.launch import cuda_device, cuda_kernel, launch
from caffetools.engine.gpu.memory import device_array
from caffetools.engine.gpu.rng import random_uniform
from caffetools.layer import TRAIN
from caffetools.layers.pooling import AVE, MAX, STOCHASTIC

LOWEST = float(np.finfo(np.float32).min)


def setup(layer, bottom, top):
    drawn = (_drawn, _scatter) if layer.phase == TRAIN else (_expected, _refuse)
    layer.gpu.pool, layer.gpu.unpool = {MAX: (_largest, _scatter), AVE: (_average, _spread), STOCHASTIC: drawn}[
        layer.method
    ]


def reshape(layer, bottom, top):
    _, height, width = layer.plane_shape
    _, rows, columns = layer.top_plane_shape
    # What all kernels take: the planes' sizes, then kernel, stride and padding, each (height, width).
    layer.gpu.sizes = (height, width, rows, columns, *layer.sizes)
    if layer.method != AVE:
        layer.gpu.index = device_array(current(), top[0].count, np.int32)


def forward(layer, bottom, top):
    layer.gpu.pool(layer, bottom[0].gpu_data, top[0].mutable_gpu_data)
    if len(top) > 1:
        mask = top[1].mutable_gpu_data
        launch(index_as_float, mask.size, layer.gpu.index, mask)


def backward(layer, top, propagate_down, bottom):
    if propagate_down[0]:
        layer.gpu.unpool(layer, top[0].gpu_diff, bottom[0].mutable_gpu_diff)


def _largest(layer, x, y):
    launch(max_pool, y.size, x, *layer.gpu.sizes, y, layer.gpu.index)


def _average(layer, x, y):
    launch(average_pool, y.size, x, *layer.gpu.sizes, y)


def _drawn(layer, x, y):
    start = np.uint64(layer.next_start)
    launch(stochastic_pool, y.size, x, *layer.gpu.sizes, layer.key, start, y, layer.gpu.index)
    layer.next_start += y.size


def _expected(layer, x, y):
    launch(expected_pool, y.size, x, *layer.gpu.sizes, y)


def _scatter(layer, dy, dx):
    launch(gather_chosen, dx.size, dy, layer.gpu.index, *layer.gpu.sizes, dx)


def _spread(layer, dy, dx):
    launch(average_pool_backward, dx.size, dy, *layer.gpu.sizes, dx)


def _refuse(layer, dy, dx):
    layer._refuse(dy, dx)


@cuda_device
def first_window(place, kernel, stride, pad):
    """Return the first window along an axis that reaches an element."""
    return 0 if place + pad < kernel else quotient(place + pad - kernel, stride) + 1


@cuda_device
def last_window(place, stride, pad, windows):
    """Return one more than the last window along an axis that reaches an element."""
    return min(quotient(place + pad, stride) + 1, windows)


@cuda_kernel
def max_pool(x, height, width, rows, columns, kh, kw, sh, sw, ph, pw, y, index):
    lowest = x.dtype.type(LOWEST)
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        line = quotient(i, columns)
        plane = quotient(line, rows)
        top, left = (line - plane * rows) * sh - ph, (i - line * columns) * sw - pw
        best, where = lowest, -1
        for h in range(max(top, 0), min(top + kh, height)):
            for w in range(max(left, 0), min(left + kw, width)):
                v = x[(plane * height + h) * width + w]
                # The first of equals, and a NaN before all, so that it stays visible.
                if v > best or v != v:
                    best, where = v, h * width + w
        y[i] = best
        index[i] = where


@cuda_kernel
def index_as_float(index, mask):
    for i in range(cuda.grid(1), mask.size, cuda.gridsize(1)):
        mask[i] = index[i]


@cuda_kernel
def gather_chosen(dy, index, height, width, rows, columns, kh, kw, sh, sw, ph, pw, dx):
    """dx = sum of the dy whose window chose this element."""
    for i in range(cuda.grid(1), dx.size, cuda.gridsize(1)):
        plane = quotient(i, height * width)
        own = i - plane * height * width
        h = quotient(own, width)
        w = own - h * width
        total = dy.dtype.type(0)
        for row in range(first_window(h, kh, sh, ph), last_window(h, sh, ph, rows)):
            for column in range(first_window(w, kw, sw, pw), last_window(w, sw, pw, columns)):
                place = (plane * rows + row) * columns + column
                if index[place] == own:
                    total += dy[place]
        dx[i] = total


@cuda_kernel
def average_pool(x, height, width, rows, columns, kh, kw, sh, sw, ph, pw, y):
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        line = quotient(i, columns)
        plane = quotient(line, rows)
        top, left = (line - plane * rows) * sh - ph, (i - line * columns) * sw - pw
        # The padding counts, as far as it reaches.
        area = (min(top + kh, height + ph) - top) * (min(left + kw, width + pw) - left)
        total = x.dtype.type(0)
        for h in range(max(top, 0), min(top + kh, height)):
            for w in range(max(left, 0), min(left + kw, width)):
                total += x[(plane * height + h) * width + w]
        y[i] = total / x.dtype.type(max(1, area))


@cuda_kernel
def average_pool_backward(dy, height, width, rows, columns, kh, kw, sh, sw, ph, pw, dx):
    for i in range(cuda.grid(1), dx.size, cuda.gridsize(1)):
        plane = quotient(i, height * width)
        own = i - plane * height * width
        h = quotient(own, width)
        w = own - h * width
        total = dy.dtype.type(0)
        for row in range(first_window(h, kh, sh, ph), last_window(h, sh, ph, rows)):
            top = row * sh - ph
            tall = min(top + kh, height + ph) - top
            for column in range(first_window(w, kw, sw, pw), last_window(w, sw, pw, columns)):
                left = column * sw - pw
                area = tall * (min(left + kw, width + pw) - left)
                total += dy[(plane * rows + row) * columns + column] / dy.dtype.type(max(1, area))
        dx[i] = total


@cuda_kernel
def stochastic_pool(x, height, width, rows, columns, kh, kw, sh, sw, ph, pw, key, start, y, index):
    zero = x.dtype.type(0)
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        first = i // (rows * columns) * height * width
        top, left = i // columns % rows * sh, i % columns * sw
        bottom, right = min(top + kh, height), min(left + kw, width)
        total = zero
        for h in range(top, bottom):
            for w in range(left, right):
                total += x[first + h * width + w]
        # The first value at which the running sum reaches the drawn share; the last one if rounding keeps it
        # below.
        threshold = total * random_uniform(key, start + np.uint64(i))
        running = zero
        chosen = -1
        for h in range(top, bottom):
            for w in range(left, right):
                if chosen < 0 or running < threshold:
                    running += x[first + h * width + w]
                    chosen = h * width + w
        index[i] = chosen
        y[i] = x[first + chosen] if chosen >= 0 else total


@cuda_kernel
def expected_pool(x, height, width, rows, columns, kh, kw, sh, sw, ph, pw, y):
    zero = x.dtype.type(0)
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        first = i // (rows * columns) * height * width
        top, left = i // columns % rows * sh, i % columns * sw
        total, squares = zero, zero
        for h in range(top, min(top + kh, height)):
            for w in range(left, min(left + kw, width)):
                v = x[first + h * width + w]
                total += v
                squares += v * v
        y[i] = squares / total if total != zero else total
