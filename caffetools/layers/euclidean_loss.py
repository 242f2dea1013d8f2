"""EuclideanLoss: loss = sum (a - b)^2 / (2 N) for two bottoms of the same size with N rows each.

    da = loss_weight (a - b) / N,   db = -da

Both bottoms may receive a gradient.
"""

from __future__ import annotations

import numpy as np

from caffetools.engine.cpu.jit import kernel
from caffetools.engine.cpu.sums import wide_squares
from caffetools.glog import check_eq
from caffetools.layer import LossLayer


class EuclideanLossLayer(LossLayer):
    backward_reads = ()

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        check_eq(
            bottom[0].count_from(1),
            bottom[1].count_from(1),
            "bottom[0]->count(1) == bottom[1]->count(1)",
            f"Inputs must have the same dimension. (layer '{self.name}')",
        )
        self.rows = max(1, bottom[0].shape[0]) if bottom[0].shape else 1  # no rows: a loss of 0
        self.difference = np.empty(bottom[0].count, self.dtype)

    def allow_force_backward(self, bottom_index):
        return True

    def forward(self, bottom, top):
        total = subtract(bottom[0].flat_data, bottom[1].flat_data, self.difference)
        with np.errstate(over="ignore"):  # too large for the blob's type: inf, which stops training with a message
            top[0].flat_data[0] = total / (2 * self.rows)

    def backward(self, top, propagate_down, bottom):
        weight = top[0].flat_diff[0] / self.dtype.type(self.rows)
        with np.errstate(all="ignore"):
            for blob, wanted, signed in zip(bottom, propagate_down, (weight, -weight), strict=True):
                if wanted:
                    np.multiply(self.difference, signed, out=blob.flat_diff)


@kernel
def subtract(a, b, difference):
    """Write a - b and return the sum of its squares, added up in double precision."""
    for i in range(a.size):
        difference[i] = a[i] - b[i]
    return wide_squares(difference)
