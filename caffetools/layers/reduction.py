"""Reduction: the axes from `axis` (0) to the last become one number each time; not in place.

The bottom is seen as (rows, columns), the top has one number a row:

    SUM    y = coeff sum x        dx = coeff dy
    ASUM   y = coeff sum |x|      dx = coeff dy sign(x)
    SUMSQ  y = coeff sum x^2      dx = coeff dy 2 x
    MEAN   y = coeff mean x       dx = coeff dy / columns
"""

from __future__ import annotations

import numpy as np

from caffetools.layer import Layer
from caffetools.proto import caffe_pb2

ASUM, SUMSQ, MEAN = (getattr(caffe_pb2.ReductionParameter, name) for name in ("ASUM", "SUMSQ", "MEAN"))

# What is summed, as a function of x, and its derivative; where there is none it is x itself.
TERMS = {ASUM: np.abs, SUMSQ: np.square}
DERIVATIVES = {ASUM: np.sign, SUMSQ: lambda x, out: np.multiply(x, 2, out=out)}


class ReductionLayer(Layer):
    exact_bottoms = 1
    exact_tops = 1
    backward_reads = ("bottom",)

    def setup(self, bottom, top):
        self.refuse_in_place(bottom, top)
        param = self.param.reduction_param
        self.operation, self.axis, self.coeff = param.operation, param.axis, param.coeff

    def reshape(self, bottom, top):
        axis = bottom[0].canonical_axis(self.axis)
        top[0].reshape(bottom[0].shape[:axis])
        self.shape = (bottom[0].count_from(0, axis), bottom[0].count_from(axis))
        self.factor = self.coeff / self.shape[1] if self.operation == MEAN and self.shape[1] else self.coeff
        self.terms = np.empty(self.shape, self.dtype) if self.operation in TERMS else None

    def forward(self, bottom, top):
        x, y = bottom[0].flat_data.reshape(self.shape), top[0].flat_data
        if self.terms is not None:
            x = TERMS[self.operation](x, out=self.terms)
        np.sum(x, axis=1, out=y)
        y *= self.factor

    def backward(self, top, propagate_down, bottom):
        if not propagate_down[0]:
            return
        x, dx = bottom[0].flat_data.reshape(self.shape), bottom[0].flat_diff.reshape(self.shape)
        scaled = (top[0].flat_diff * self.factor)[:, None]
        if self.terms is None:
            dx[...] = scaled
        else:
            DERIVATIVES[self.operation](x, out=dx)
            dx *= scaled
