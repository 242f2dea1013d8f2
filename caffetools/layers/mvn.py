"""MVN: zero mean and unit variance for each (n, c), or for each n if `across_channels`.

    y = (x - mean) / (std + eps),   std^2 = mean((x - mean)^2)
    dx = (dy - mean(dy) - y mean(dy y)) / (std + eps)

dx is the original's, which is the derivative where eps is small beside std: its last term lacks a factor of
(std + eps) / std. The recordings, with an eps of 1e-9, would allow either; what was trained with a larger one had this.

Without `normalize_variance` y = x - mean and dx = dy - mean(dy). May work in place.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from caffetools.engine.cpu.jit import parallel_kernel
from caffetools.engine.cpu.sums import squares, total, total_and_dot
from caffetools.layer import Layer


class MVNLayer(Layer):
    exact_bottoms = 1
    exact_tops = 1
    backward_reads = ("top",)

    def setup(self, bottom, top):
        param = self.param.mvn_param
        self.normalize_variance = param.normalize_variance
        self.axes = 1 if param.across_channels else 2
        self.eps = self.dtype.type(param.eps)

    def reshape(self, bottom, top):
        top[0].reshape_like(bottom[0])
        self.matrix = bottom[0].count_from(0, self.axes), bottom[0].count_from(self.axes)
        self.factor = np.empty(self.matrix[0], self.dtype)

    def forward(self, bottom, top):
        x, y = bottom[0].flat_data.reshape(self.matrix), top[0].flat_data.reshape(self.matrix)
        mvn_forward(x, self.normalize_variance, self.eps, self.factor, y)

    def backward(self, top, propagate_down, bottom):
        if propagate_down[0]:
            y, dy = top[0].flat_data.reshape(self.matrix), top[0].flat_diff.reshape(self.matrix)
            mvn_backward(
                y, dy, self.normalize_variance, self.factor, bottom[0].flat_diff.reshape(self.matrix)
            )


@parallel_kernel
def mvn_forward(x, normalize_variance, eps, factor, y):
    one = x.dtype.type(1)
    rows, size = x.shape
    for row in numba.prange(rows):
        values, out = x[row], y[row]
        mean, scale = total(values) / x.dtype.type(size), one
        if normalize_variance:
            scale = one / (math.sqrt(squares(values, mean) / x.dtype.type(size)) + eps)
        for i in range(size):
            out[i] = (values[i] - mean) * scale
        factor[row] = scale


@parallel_kernel
def mvn_backward(y, dy, normalize_variance, factor, dx):
    zero = y.dtype.type(0)
    rows, size = y.shape
    for row in numba.prange(rows):
        values, grads, out = y[row], dy[row], dx[row]
        plain, weighted = total_and_dot(grads, values, zero)
        mean = plain / y.dtype.type(size)
        slope = weighted / y.dtype.type(size) if normalize_variance else zero
        for i in range(size):
            out[i] = (grads[i] - mean - values[i] * slope) * factor[row]
