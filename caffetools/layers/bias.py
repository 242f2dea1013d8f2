"""Bias: y = x + b, where b spans `num_axes` axes of x from `axis` on and repeats over the others.

    dx = dy,   db = sum of dy over the other axes

b is a parameter (zeros unless `filler` says otherwise), or bottom 1 with any number of axes. Works in place.
"""

from __future__ import annotations

import numba
import numpy as np

from caffetools.engine.cpu.jit import parallel_kernel
from caffetools.engine.cpu.sums import total
from caffetools.layer import Layer
from caffetools.parts.broadcast import parameter_shape, spans


class BiasLayer(Layer):
    min_bottoms = 1
    max_bottoms = 2
    exact_tops = 1
    backward_reads = ()

    def setup(self, bottom, top):
        param = self.param.bias_param
        if len(bottom) == 1:
            shape = parameter_shape(self, bottom[0], param.axis, param.num_axes, "bias")
            self.add_param(shape, param.filler)

    def reshape(self, bottom, top):
        bias = bottom[1] if len(bottom) > 1 else self.blobs[0]
        self.spans = spans(self, bottom[0], bias, self.param.bias_param.axis, "bias")
        top[0].reshape_like(bottom[0])
        self.sums = np.empty(bias.count, self.dtype)

    def forward(self, bottom, top):
        bias = bottom[1] if len(bottom) > 1 else self.blobs[0]
        add_bias(bottom[0].flat_data, bias.flat_data, self.spans.inner, top[0].flat_data)

    def backward(self, top, propagate_down, bottom):
        dy = top[0].flat_diff
        if len(bottom) > 1:
            if propagate_down[1]:
                sum_spans(dy, self.spans.inner, bottom[1].flat_diff)
        elif self.param_propagate_down[0]:
            sum_spans(dy, self.spans.inner, self.sums)
            db = self.blobs[0].flat_diff
            db += self.sums
        if propagate_down[0] and top[0] is not bottom[0]:
            np.copyto(bottom[0].flat_diff, dy)


@parallel_kernel
def add_bias(x, b, inner, y):
    for row in numba.prange(x.size // inner):
        shift = b[row % b.size]
        source, out = x[row * inner : (row + 1) * inner], y[row * inner : (row + 1) * inner]
        for i in range(inner):
            out[i] = source[i] + shift


@parallel_kernel
def sum_spans(dy, inner, db):
    """Sum dy, seen as (outer, db.size, inner), over all but its middle axis."""
    for d in numba.prange(db.size):
        sum_of_spans = dy.dtype.type(0)
        for start in range(d * inner, dy.size, db.size * inner):
            sum_of_spans += total(dy[start : start + inner])
        db[d] = sum_of_spans
