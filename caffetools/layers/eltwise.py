"""Eltwise: combines two or more bottoms of one shape, element by element.

SUM     y = sum c_i x_i, with the coefficients `coeff` (default 1);    dx_i = c_i dy
PROD    y = product x_i;                                               dx_i = dy product of the other x
MAX     y = max x_i;                          dx_i = dy where bottom i had the largest value, else 0

PROD's gradient is multiplied anew, or divided, dy y / x_i, where `stable_prod_grad` is false. The maximum of
equal values is, as in the original, that of bottom 1 among the first two, and the earliest among the others.
"""

from __future__ import annotations

import numba
import numpy as np

from caffetools.blob import Blob
from caffetools.engine.cpu.jit import parallel_kernel
from caffetools.glog import check
from caffetools.layer import Layer, Part
from caffetools.parts.places import lies_at
from caffetools.proto import caffe_pb2

PROD, SUM, MAX = (getattr(caffe_pb2.EltwiseParameter, name) for name in ("PROD", "SUM", "MAX"))


class EltwiseLayer(Layer):
    min_bottoms = 2
    exact_tops = 1

    def setup(self, bottom, top):
        param, where = self.param.eltwise_param, f"(layer '{self.name}')"
        check(
            len(param.coeff) in (0, len(bottom)),
            "coeff_size == 0 || coeff_size == bottom.size()",
            f"Eltwise Layer takes one coefficient per bottom blob. {where}",
        )
        check(
            param.operation == SUM or not param.coeff,
            "!(operation != SUM && coeff_size)",
            f"Eltwise layer only takes coefficients for summation. {where}",
        )
        if param.operation == PROD:
            self.refuse_in_place(bottom, top)
        self.coefficients = [self.dtype.type(c) for c in param.coeff or [1] * len(bottom)]
        self.stable = param.stable_prod_grad
        self.operation = param.operation
        self.winner_blob = Blob((0,), np.int32)
        self._combine, self._gradient = {
            SUM: (self._sum, self._sum_gradient),
            PROD: (self._product, self._product_gradient),
            MAX: (self._maximum, self._maximum_gradient),
        }[param.operation]

    def reshape(self, bottom, top):
        for i, blob in enumerate(bottom[1:], 1):
            words = f"bottom 0: {bottom[0].shape_string}, bottom {i}: {blob.shape_string}"
            check(
                blob.shape == bottom[0].shape,
                "bottom[0]->shape() == bottom[i]->shape()",
                f"{words} (layer '{self.name}')",
            )
        top[0].reshape_like(bottom[0])
        if self.operation == MAX:
            self.winner_blob.reshape((bottom[0].count,))

    @property
    def backward_reads(self):
        return ("bottom", "top") if self.operation == PROD else ()

    @property
    def winner(self) -> np.ndarray:
        """The index of the bottom that had the largest value, for each element."""
        return self.winner_blob.data

    def kept(self):
        return [self.winner_blob] if self.operation == MAX else []

    def diff_parts(self, bottom, top):
        if self.operation != SUM:
            return []
        unchanged = [c == 1 for c in self.coefficients]
        return [Part(top[0], blob) for blob, same in zip(bottom, unchanged, strict=True) if same]

    def forward(self, bottom, top):
        with np.errstate(all="ignore"):
            self._combine([blob.flat_data for blob in bottom], top[0].flat_data)

    def _sum(self, xs, y):
        one = self.dtype.type(1)
        c = self.coefficients
        weighted_sum(xs[0], c[0], xs[1], c[1], y)
        for x, factor in zip(xs[2:], c[2:], strict=True):
            weighted_sum(y, one, x, factor, y)

    def _product(self, xs, y):
        np.multiply(xs[0], xs[1], out=y)
        for x in xs[2:]:
            np.multiply(y, x, out=y)

    def _maximum(self, xs, y):
        larger_of_two(xs[0], xs[1], y, self.winner)
        for i, x in enumerate(xs[2:], 2):
            larger_of_more(x, np.int32(i), y, self.winner)

    def backward(self, top, propagate_down, bottom):
        # Bottom 0 comes last: in place its diff is the top's.
        with np.errstate(all="ignore"):
            for i in reversed(range(len(bottom))):
                if propagate_down[i]:
                    self._gradient(i, top[0], bottom)

    def _sum_gradient(self, i, top, bottom):
        dy, dx = top.flat_diff, bottom[i].flat_diff
        if self.coefficients[i] != 1:
            np.multiply(dy, self.coefficients[i], out=dx)
        elif not lies_at(dx, dy):
            np.copyto(dx, dy)

    def _product_gradient(self, i, top, bottom):
        dx = bottom[i].flat_diff
        if self.stable:
            others = [blob.flat_data for j, blob in enumerate(bottom) if j != i]
            np.copyto(dx, others[0])
            for x in others[1:]:
                np.multiply(dx, x, out=dx)
        else:
            np.divide(top.flat_data, bottom[i].flat_data, out=dx)
        np.multiply(dx, top.flat_diff, out=dx)

    def _maximum_gradient(self, i, top, bottom):
        maximum_gradient(top.flat_diff, self.winner, np.int32(i), bottom[i].flat_diff)


@parallel_kernel
def weighted_sum(a, a_factor, b, b_factor, y):
    for i in numba.prange(y.size):
        y[i] = a_factor * a[i] + b_factor * b[i]


@parallel_kernel
def larger_of_two(a, b, y, winner):
    for i in numba.prange(y.size):
        # A NaN wins, so that it stays visible.
        first = a[i] > b[i] or a[i] != a[i]
        y[i] = a[i] if first else b[i]
        winner[i] = 0 if first else 1


@parallel_kernel
def larger_of_more(x, index, y, winner):
    for i in numba.prange(y.size):
        if x[i] > y[i] or x[i] != x[i]:
            y[i] = x[i]
            winner[i] = index


@parallel_kernel
def maximum_gradient(dy, winner, index, dx):
    zero = dy.dtype.type(0)
    for i in numba.prange(dx.size):
        dx[i] = dy[i] if winner[i] == index else zero
