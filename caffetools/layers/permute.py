"""Permute, of the SSD fork: the axes in another order, y[i_order[0], i_order[1], ...] = x[i_0, i_1, ...].

`order` names the bottom's axes as the top has them; those that it leaves out follow in their old order.
"""

from __future__ import annotations

import numpy as np

from caffetools.glog import check, check_lt
from caffetools.layer import Layer


class PermuteLayer(Layer):
    exact_bottoms = 1
    exact_tops = 1
    backward_reads = ()

    def setup(self, bottom, top):
        self.refuse_in_place(bottom, top)
        order, axes, where = list(self.param.permute_param.order), len(bottom[0].shape), f"(layer '{self.name}')"
        for axis in order:
            check_lt(axis, axes, "order < num_axes", f"there is no such axis {where}")
        check(len(set(order)) == len(order), "there are duplicate orders", f"an axis is named twice {where}")
        self.order = [*order, *(axis for axis in range(axes) if axis not in order)]
        self.inverse = np.argsort(self.order)

    def reshape(self, bottom, top):
        top[0].reshape([bottom[0].shape[axis] for axis in self.order])

    def forward(self, bottom, top):
        np.copyto(top[0].data, bottom[0].data.transpose(self.order))

    def backward(self, top, propagate_down, bottom):
        if propagate_down[0]:
            np.copyto(bottom[0].diff, top[0].diff.transpose(self.inverse))
