"""Axpy, of SENet (Hu et al. 2018): top = a x + y, where a has a factor for each channel of x.

Bottoms: a (N, C) or (N, C, 1, 1), x (N, C, H, W) and y, of the shape of x.

    da = sum of dtop x over each plane,   dx = dtop a,   dy = dtop
"""

from __future__ import annotations

import numba
import numpy as np

from caffetools.engine.cpu.jit import parallel_kernel
from caffetools.glog import check, check_eq
from caffetools.layer import Layer


class AxpyLayer(Layer):
    reads = ()
    exact_bottoms = 3
    exact_tops = 1
    backward_reads = ("bottom[0]", "bottom[1]")

    def setup(self, bottom, top):
        for blob in bottom[:2]:
            words = f"only y may be overwritten (layer '{self.name}')"
            check(top[0] is not blob, "top[0] != bottom[0] && top[0] != bottom[1]", words)

    def reshape(self, bottom, top):
        a, x, y = bottom
        where = f"(layer '{self.name}')"
        check(
            a.shape[:2] == x.shape[:2] and a.count == x.count_from(0, 2),
            "bottom[0]->count() == N C",
            f"the first bottom must have a factor for each channel of the second: {a.shape} for {x.shape} {where}",
        )
        check_eq(x.shape, y.shape, "bottom[1]->shape() == bottom[2]->shape()", where)
        top[0].reshape_like(x)
        self.planes = (a.count, x.count_from(2))

    def forward(self, bottom, top):
        a, x, y = (blob.flat_data for blob in bottom)
        axpy_forward(a, x.reshape(self.planes), y.reshape(self.planes), top[0].flat_data.reshape(self.planes))

    def backward(self, top, propagate_down, bottom):
        dy = top[0].flat_diff.reshape(self.planes)
        x = bottom[1].flat_data.reshape(self.planes)
        if propagate_down[0]:
            np.einsum("pi,pi->p", dy, x, out=bottom[0].flat_diff)
        if propagate_down[1]:
            np.multiply(dy, bottom[0].flat_data[:, None], out=bottom[1].flat_diff.reshape(self.planes))
        if propagate_down[2] and bottom[2] is not top[0]:
            np.copyto(bottom[2].flat_diff, top[0].flat_diff)


@parallel_kernel
def axpy_forward(a, x, y, result):
    for plane in numba.prange(a.size):
        factor = a[plane]
        for i in range(x.shape[1]):
            result[plane, i] = factor * x[plane, i] + y[plane, i]
