"""InnerProduct: y = x W^T + b.

The axes of the bottom before `axis` (default 1) count as rows M, those from it on as K inputs; W is (N, K)
with N = num_output, or (K, N) where `transpose` is set; b is (N). The top has the axes before `axis`, then N.

    dW += dy^T x,   db += sum over the rows of dy,   dx = dy W
"""

from __future__ import annotations

import numpy as np

from caffetools.engine.cpu.gemm import gemm
from caffetools.engine.cpu.inner_product import inner_product
from caffetools.glog import check_eq, check_gt
from caffetools.layer import Layer


class InnerProductLayer(Layer):
    exact_bottoms = 1
    exact_tops = 1
    backward_reads = ("bottom",)
    first_gradient_of = 0

    def setup(self, bottom, top):
        self.refuse_in_place(bottom, top)
        param = self.param.inner_product_param
        self.outputs = param.num_output
        check_gt(self.outputs, 0, "num_output > 0", f"(layer '{self.name}')")
        self.transpose = param.transpose
        self.inputs = bottom[0].count_from(bottom[0].canonical_axis(param.axis))
        shape = (self.inputs, self.outputs) if self.transpose else (self.outputs, self.inputs)
        self.add_param(shape, param.weight_filler)
        if param.bias_term:
            self.add_param((self.outputs,), param.bias_filler)

    def reshape(self, bottom, top):
        axis = bottom[0].canonical_axis(self.param.inner_product_param.axis)
        check_eq(
            self.inputs,
            bottom[0].count_from(axis),
            "K_ == new_K",
            f"Input size incompatible with inner product parameters. (layer '{self.name}')",
        )
        top[0].reshape((*bottom[0].shape[:axis], self.outputs))
        rows = bottom[0].count_from(0, axis)
        self.x_shape, self.y_shape = (rows, self.inputs), (rows, self.outputs)
        self.row_sum = np.empty(self.outputs, self.dtype)

    def forward(self, bottom, top):
        self.forward_finished(bottom[0].flat_data, top[0].flat_data)

    def forward_finished(self, x: np.ndarray, y: np.ndarray, slope: float = 1) -> None:
        """Compute flat y from flat x; slope: of a ReLU that follows, 1 for none, as it must be with `transpose`."""
        x, y = x.reshape(self.x_shape), y.reshape(self.y_shape)
        w, b = self.blobs[0].data, self.blobs[1].data if len(self.blobs) > 1 else None
        if not self.transpose:
            inner_product(x, w, b, y, slope)
        elif b is None:
            gemm(False, False, 1, x, w, 0, y)
        else:
            y[:] = b
            gemm(False, False, 1, x, w, 1, y)

    def backward(self, top, propagate_down, bottom):
        dy = top[0].flat_diff.reshape(self.y_shape)
        if self.param_propagate_down[0]:
            x, dw = bottom[0].flat_data.reshape(self.x_shape), self.blobs[0].diff
            add = 0 if self.writes_gradient else 1
            self.writes_gradient = False
            if self.transpose:
                gemm(True, False, 1, x, dy, add, dw)
            else:
                gemm(True, False, 1, dy, x, add, dw)
        if len(self.blobs) > 1 and self.param_propagate_down[1]:
            np.add.reduce(dy, axis=0, out=self.row_sum)
            db = self.blobs[1].diff
            db += self.row_sum
        if propagate_down[0]:
            gemm(
                False, self.transpose, 1, dy, self.blobs[0].data, 0, bottom[0].flat_diff.reshape(self.x_shape)
            )
