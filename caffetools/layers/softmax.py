"""Softmax over one axis (default 1): y_c = e^(x_c - m) / sum_k e^(x_k - m), m = max_k x_k; may work in place.

    dx_c = y_c (dy_c - sum_k dy_k y_k)

The blob is seen as (outer, classes, inner); every (outer, inner) position is normalised by itself.
"""

from __future__ import annotations

import numba
import numpy as np

from caffetools.engine.cpu.exponential import exp
from caffetools.engine.cpu.jit import kernel, parallel_kernel
from caffetools.engine.cpu.sums import dot, total
from caffetools.layer import Layer

# Neighbours along the inner axes that are normalised together.
BLOCK = 128


class SoftmaxLayer(Layer):
    exact_bottoms = 1
    exact_tops = 1
    backward_reads = ("top",)

    def reshape(self, bottom, top):
        axis = bottom[0].canonical_axis(self.param.softmax_param.axis)
        self.classes, self.inner = bottom[0].shape[axis], bottom[0].count_from(axis + 1)
        top[0].reshape_like(bottom[0])

    def forward(self, bottom, top):
        softmax_forward(bottom[0].flat_data, self.classes, self.inner, top[0].flat_data)

    def backward(self, top, propagate_down, bottom):
        if propagate_down[0]:
            softmax_backward(
                top[0].flat_data, top[0].flat_diff, self.classes, self.inner, bottom[0].flat_diff
            )


@parallel_kernel
def softmax_forward(x, classes, inner, y):
    step = classes * inner
    blocks = (inner + BLOCK - 1) // BLOCK
    for item in numba.prange(x.size // step * blocks):
        place = item % blocks * BLOCK
        first = item // blocks * step + place
        if inner == 1:
            normalise(x[first : first + step], y[first : first + step])
        else:
            width = min(BLOCK, inner - place)
            last = first + step - inner + width
            normalise_block(x[first:last], inner, width, y[first:last])


@kernel
def normalise(x, y):
    """One item, whose classes lie side by side."""
    largest = x[0]
    for i in range(x.size):
        largest = max(largest, x[i])
    for i in range(x.size):
        y[i] = exp(x[i] - largest)
    factor = x.dtype.type(1) / total(y)
    for i in range(x.size):
        y[i] *= factor


@kernel
def normalise_block(x, inner, width, y):
    """`width` neighbours at once, whose classes are `inner` apart."""
    largest = x[:width].copy()
    sums = np.zeros(width, x.dtype)
    for start in range(0, x.size, inner):
        line = x[start : start + width]
        for i in range(width):
            largest[i] = max(largest[i], line[i])
    for start in range(0, x.size, inner):
        line, out = x[start : start + width], y[start : start + width]
        for i in range(width):
            out[i] = exp(line[i] - largest[i])
            sums[i] += out[i]
    for start in range(0, x.size, inner):
        out = y[start : start + width]
        for i in range(width):
            out[i] /= sums[i]


@parallel_kernel
def softmax_backward(y, dy, classes, inner, dx):
    step = classes * inner
    blocks = (inner + BLOCK - 1) // BLOCK
    for item in numba.prange(y.size // step * blocks):
        place = item % blocks * BLOCK
        first = item // blocks * step + place
        if inner == 1:
            project(y[first : first + step], dy[first : first + step], dx[first : first + step])
        else:
            width = min(BLOCK, inner - place)
            last = first + step - inner + width
            project_block(y[first:last], dy[first:last], inner, width, dx[first:last])


@kernel
def project(y, dy, dx):
    along = dot(dy, y)
    for i in range(y.size):
        dx[i] = (dy[i] - along) * y[i]


@kernel
def project_block(y, dy, inner, width, dx):
    along = np.zeros(width, y.dtype)
    for start in range(0, y.size, inner):
        line, grads = y[start : start + width], dy[start : start + width]
        for i in range(width):
            along[i] += grads[i] * line[i]
    for start in range(0, y.size, inner):
        line, grads, out = y[start : start + width], dy[start : start + width], dx[start : start + width]
        for i in range(width):
            out[i] = (grads[i] - along[i]) * line[i]
