"""SigmoidCrossEntropyLoss: loss = - sum (t log s + (1 - t) log(1 - s)) / norm with s = 1 / (1 + e^-x).

    dx = loss_weight (s - t) / norm

Bottom 0 holds x, bottom 1 as many targets t in [0, 1]. An element whose target, cut to an integer, is
`ignore_label` adds nothing. norm: BATCH_SIZE (the default here) the rows, FULL the elements, VALID the
elements that count, NONE 1; never below 1. The loss of an element is computed as log(1 + e^-|x|) -
x (t - [x >= 0]), which does not overflow.
"""

from __future__ import annotations

import numba
import numpy as np

from caffetools.engine.cpu.exponential import sigmoid, softplus
from caffetools.engine.cpu.jit import parallel_kernel
from caffetools.engine.cpu.sums import total
from caffetools.glog import check_eq
from caffetools.layer import LossLayer
from caffetools.parts.loss import SOFT_TARGETS, normalization

#: Losses of a row that are computed before they are added up.
BLOCK = 256


class SigmoidCrossEntropyLossLayer(LossLayer):
    reads = ("loss_param",)
    refuses = {"loss_param": dict.fromkeys(SOFT_TARGETS, "It is for SoftmaxWithLoss")}
    backward_reads = ("bottom",)

    def setup(self, bottom, top):
        param = self.param.loss_param
        self.normalization = normalization(param, default=param.BATCH_SIZE)
        self.has_ignore_label = param.HasField("ignore_label")
        self.ignore_label = param.ignore_label

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        words = f"SIGMOID_CROSS_ENTROPY_LOSS layer inputs must have the same count. (layer '{self.name}')"
        check_eq(bottom[0].count, bottom[1].count, "bottom[0]->count() == bottom[1]->count()", words)
        self.rows, self.columns = bottom[0].shape[bottom[0].canonical_axis(0)], bottom[0].count_from(1)
        # Summed row by row, so that the result does not depend on the number of threads.
        self.row_losses = np.empty(self.rows)
        self.row_counts = np.empty(self.rows, np.int64)

    def forward(self, bottom, top):
        logistic_loss(
            bottom[0].data.reshape(self.rows, self.columns),
            bottom[1].data.reshape(self.rows, self.columns),
            self.has_ignore_label,
            self.ignore_label,
            self.row_losses,
            self.row_counts,
        )
        self.norm = self.normalization(self.rows, self.columns, int(self.row_counts.sum()))
        top[0].flat_data[0] = self.row_losses.sum() / self.norm

    def backward(self, top, propagate_down, bottom):
        self.refuse_label_gradient(propagate_down)
        if propagate_down[0]:
            logistic_loss_backward(
                bottom[0].flat_data,
                bottom[1].flat_data,
                self.has_ignore_label,
                self.ignore_label,
                self.dtype.type(top[0].flat_diff[0] / self.norm),
                bottom[0].flat_diff,
            )


@parallel_kernel
def logistic_loss(x, targets, has_ignore_label, ignore_label, row_losses, row_counts):
    """Write the sum of the losses and the number of the elements that count, for each row."""
    zero, one = x.dtype.type(0), x.dtype.type(1)
    columns = x.shape[1]
    for row in numba.prange(x.shape[0]):
        losses = np.empty(BLOCK, x.dtype)
        loss, count = 0.0, 0
        for first in range(0, columns, BLOCK):
            width = min(BLOCK, columns - first)
            values, wanted = x[row, first : first + width], targets[row, first : first + width]
            for i in range(width):
                v, t = values[i], wanted[i]
                ignored = has_ignore_label and int(t) == ignore_label
                losses[i] = zero if ignored else softplus(-abs(v)) - v * (t - (one if v >= zero else zero))
                count += 0 if ignored else 1
            loss += total(losses[:width])
        row_losses[row] = loss
        row_counts[row] = count


@parallel_kernel
def logistic_loss_backward(x, targets, has_ignore_label, ignore_label, weight, dx):
    zero = x.dtype.type(0)
    for i in numba.prange(x.size):
        ignored = has_ignore_label and int(targets[i]) == ignore_label
        dx[i] = zero if ignored else weight * (sigmoid(x[i]) - targets[i])
