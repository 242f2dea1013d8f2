"""HingeLoss, one class against all others: loss = sum m^p / N with m = max(0, 1 - t x).

    dx = - loss_weight t [m > 0] / N     (norm L1, p = 1)
    dx = - loss_weight 2 t m / N         (norm L2, p = 2)

t is 1 for the label's class, else -1. Bottom 0 is seen as N rows of scores, one score a class; bottom 1 has
N labels.
"""

from __future__ import annotations

import numpy as np

from caffetools.glog import check_eq
from caffetools.layer import LossLayer
from caffetools.parts.loss import class_indices
from caffetools.proto import caffe_pb2


class HingeLossLayer(LossLayer):
    backward_reads = ()

    def setup(self, bottom, top):
        self.squared = self.param.hinge_loss_param.norm == caffe_pb2.HingeLossParameter.L2

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        rows = bottom[0].shape[bottom[0].canonical_axis(0)]
        words = f"there must be one label for each row of scores. (layer '{self.name}')"
        check_eq(bottom[1].count, rows, "bottom[1]->count() == bottom[0]->num()", words)
        self.margins = np.empty((rows, bottom[0].count_from(1)), self.dtype)
        self.rows = np.arange(rows)

    def forward(self, bottom, top):
        x, m = bottom[0].data.reshape(self.margins.shape), self.margins
        self.labels = class_indices(self, bottom[1].flat_data, x.shape[1])
        np.add(x, 1, out=m)
        m[self.rows, self.labels] = 1 - x[self.rows, self.labels]
        np.maximum(m, 0, out=m)
        # Not the BLAS's product, whose rounding depends on its threads.
        total = np.square(m).sum() if self.squared else m.sum()
        top[0].flat_data[0] = total / max(1, len(m))

    def backward(self, top, propagate_down, bottom):
        self.refuse_label_gradient(propagate_down)
        if propagate_down[0]:
            dx = bottom[0].diff.reshape(self.margins.shape)
            if self.squared:
                np.multiply(self.margins, 2, out=dx)
            else:
                np.sign(self.margins, out=dx)
            dx[self.rows, self.labels] *= -1
            dx *= top[0].flat_diff[0] / self.dtype.type(len(dx))
