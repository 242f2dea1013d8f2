"""ContrastiveLoss (Hadsell et al. 2006): pairs of vectors a, b with a label y, 0 or else 1 (alike).

    loss = sum (y d^2 + (1 - y) max(margin - d, 0)^2) / (2 N),   d = |a - b|
    da = loss_weight (a - b) / N                                     where y = 1
    da = - loss_weight (margin - d) (a - b) / ((d + 1e-4) N)         where y = 0 and d < margin,   0 elsewhere
    db = - da

With legacy_version an unlike pair adds max(margin - d^2, 0), and da is - loss_weight (a - b) / N where that
is positive.

Bottoms: a and b (N, C), or with further axes of size 1, and y (N).
"""

from __future__ import annotations

import numpy as np

from caffetools.glog import check_eq
from caffetools.layer import LossLayer


class ContrastiveLossLayer(LossLayer):
    exact_bottoms = 3
    backward_reads = ()

    def setup(self, bottom, top):
        param = self.param.contrastive_loss_param
        self.margin, self.legacy = self.dtype.type(param.margin), param.legacy_version

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        a, b, similar = bottom
        where = f"(layer '{self.name}')"
        check_eq(a.legacy(1), b.legacy(1), "bottom[0]->channels() == bottom[1]->channels()", where)
        for i, blob in enumerate(bottom):
            for axis, size in enumerate(("channels", "height", "width"), 1):
                if axis > 1 or blob is similar:
                    check_eq(blob.legacy(axis), 1, f"bottom[{i}]->{size}() == 1", where)
        words = f"there must be one label for each pair. {where}"
        check_eq(similar.legacy(0), a.legacy(0), "bottom[2]->num() == bottom[0]->num()", words)
        self.difference = np.empty((a.legacy(0), a.legacy(1)), self.dtype)

    def forward(self, bottom, top):
        d = self.difference
        np.subtract(bottom[0].data.reshape(d.shape), bottom[1].data.reshape(d.shape), out=d)
        self.alike = bottom[2].flat_data.astype(np.int64) != 0
        squares = np.einsum("nc,nc->n", d, d)
        self.distance = squares if self.legacy else np.sqrt(squares)
        self.gap = np.maximum(self.margin - self.distance, 0)
        losses = np.where(self.alike, squares, self.gap if self.legacy else self.gap**2)
        top[0].flat_data[0] = losses.sum() / max(1, 2 * len(d))

    def backward(self, top, propagate_down, bottom):
        words = f"{self.type} Layer cannot backpropagate to label inputs. (layer '{self.name}')"
        check_eq(propagate_down[2], False, "propagate_down[2] == false", words)
        unlike = np.sign(self.gap) if self.legacy else self.gap / (self.distance + self.dtype.type(1e-4))
        factors = np.where(self.alike, self.dtype.type(1), -unlike)
        factors *= top[0].flat_diff[0] / self.dtype.type(len(self.difference))
        for blob, wanted, signed in zip(bottom, propagate_down, (factors, -factors), strict=False):
            if wanted:
                dx = blob.diff.reshape(self.difference.shape)
                np.multiply(self.difference, signed[:, None], out=dx)

    def allow_force_backward(self, bottom_index):
        return bottom_index != 2
