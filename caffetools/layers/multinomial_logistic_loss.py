"""MultinomialLogisticLoss: loss = - sum log max(p_label, 1e-20) / N, where bottom 0 holds probabilities.

    dp_label = - loss_weight / (N max(p_label, 1e-20)),   dp = 0  for the other classes

Bottom 0 is seen as N rows of probabilities, one for each class; bottom 1 has N labels. What a Softmax layer
below gives is better fed to SoftmaxWithLoss, whose gradient is more stable.
"""

from __future__ import annotations

import numpy as np

from caffetools.glog import check_eq
from caffetools.layer import LossLayer
from caffetools.parts.loss import LOG_THRESHOLD, class_indices


class MultinomialLogisticLossLayer(LossLayer):
    backward_reads = ()

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        for axis, size in enumerate(("channels", "height", "width"), 1):
            words = f"there must be one label for each row of probabilities. (layer '{self.name}')"
            check_eq(bottom[1].legacy(axis), 1, f"bottom[1]->{size}() == 1", words)
        self.shape = (bottom[0].shape[bottom[0].canonical_axis(0)], bottom[0].count_from(1))
        self.rows = np.arange(self.shape[0])

    def forward(self, bottom, top):
        p = bottom[0].data.reshape(self.shape)
        self.labels = class_indices(self, bottom[1].flat_data, self.shape[1])
        self.p_label = np.maximum(p[self.rows, self.labels], self.dtype.type(LOG_THRESHOLD))
        top[0].flat_data[0] = -np.log(self.p_label).sum() / max(1, len(p))

    def backward(self, top, propagate_down, bottom):
        self.refuse_label_gradient(propagate_down)
        if propagate_down[0]:
            bottom[0].flat_diff.fill(0)
            dp = bottom[0].diff.reshape(self.shape)
            dp[self.rows, self.labels] = -top[0].flat_diff[0] / (len(dp) * self.p_label)
