"""Accuracy: the share of items whose label's score is among the top_k best; no loss, no gradient.

Bottom 0 holds scores, seen as (outer, classes, inner), bottom 1 outer x inner labels. Top 0 is the share
among the items whose label is not `ignore_label`; top 1, if asked for, is the share for each class (0 where a
class does not occur).

As in the original, another class with the same score counts as better, so that scores that are all equal give
0; and no class is better than a score that is NaN, so that such an item counts as right.
"""

from __future__ import annotations

import numpy as np

from caffetools.engine.cpu.jit import kernel
from caffetools.glog import check_le, fatal
from caffetools.layer import Layer
from caffetools.parts.loss import check_label_count, refuse_label


class AccuracyLayer(Layer):
    exact_bottoms = 2
    min_tops = 1
    max_tops = 2
    backward_reads = ()

    def setup(self, bottom, top):
        self.refuse_in_place(bottom, top)
        param = self.param.accuracy_param
        self.top_k = param.top_k
        self.has_ignore_label = param.HasField("ignore_label")
        self.ignore_label = param.ignore_label

    def reshape(self, bottom, top):
        check_le(
            self.top_k,
            bottom[0].count // bottom[1].count if bottom[1].count else self.top_k,
            "top_k_ <= bottom[0]->count() / bottom[1]->count()",
            f"top_k must be less than or equal to the number of classes. (layer '{self.name}')",
        )
        axis = bottom[0].canonical_axis(self.param.accuracy_param.axis)
        self.classes, self.inner = bottom[0].shape[axis], bottom[0].count_from(axis + 1)
        items = bottom[0].count_from(0, axis) * self.inner
        check_label_count(self, items, bottom[1], "label axis")
        top[0].reshape(())
        if len(top) > 1:
            top[1].reshape((self.classes,))
        self.right = np.empty(self.classes, np.int64)
        self.total = np.empty(self.classes, np.int64)

    def allow_force_backward(self, bottom_index):
        return False

    def forward(self, bottom, top):
        wrong = count_right(
            bottom[0].flat_data,
            bottom[1].flat_data,
            self.classes,
            self.inner,
            self.top_k,
            self.has_ignore_label,
            self.ignore_label,
            self.right,
            self.total,
        )
        if wrong >= 0:
            refuse_label(self, bottom[1].flat_data, wrong, self.classes)
        top[0].flat_data[0] = self.right.sum() / max(1, self.total.sum())
        if len(top) > 1:
            np.divide(self.right, np.maximum(self.total, 1), out=top[1].data, casting="same_kind")

    def backward(self, top, propagate_down, bottom):
        if any(propagate_down):
            fatal(f"Accuracy Layer has no gradient. (layer '{self.name}')")


@kernel
def count_right(scores, labels, classes, inner, top_k, has_ignore_label, ignore_label, right, total):
    """Count right items and all items of each class; return the index of a label out of range, or -1."""
    right[:] = 0
    total[:] = 0
    for item in range(labels.size):
        if has_ignore_label and int(labels[item]) == ignore_label:
            continue
        # On the float, so that a NaN is refused as well.
        if not -1 < labels[item] < classes:
            return item
        label = int(labels[item])
        first = item // inner * classes * inner + item % inner
        score = scores[first + label * inner]
        better = -1  # the label's own score counts as well, unless it is NaN
        for i in range(first, first + classes * inner, inner):
            better += scores[i] >= score
        total[label] += 1
        right[label] += better < top_k
    return -1
