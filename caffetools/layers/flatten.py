"""Flatten: the axes from `axis` (1) to `end_axis` (-1, the last), both included, become one; nothing is
copied."""

from __future__ import annotations

from caffetools.glog import check_le
from caffetools.layer import Layer


class FlattenLayer(Layer):
    exact_bottoms = 1
    exact_tops = 1
    backward_reads = ()

    def setup(self, bottom, top):
        self.refuse_in_place(bottom, top)
        param = self.param.flatten_param
        self.axis, self.end_axis = param.axis, param.end_axis

    def reshape(self, bottom, top):
        start, last = bottom[0].canonical_axis(self.axis), bottom[0].canonical_axis(self.end_axis)
        words = f"end_axis lies before axis. (layer '{self.name}')"
        check_le(start, last, "start_axis <= end_axis", words)
        shape = bottom[0].shape
        top[0].reshape((*shape[:start], bottom[0].count_from(start, last + 1), *shape[last + 1 :]))
        top[0].share_data(bottom[0])
        top[0].share_diff(bottom[0])

    def forward(self, bottom, top):
        # Once more: the layer below may have moved its top to other storage.
        top[0].share_data(bottom[0])

    def backward(self, top, propagate_down, bottom):
        """Nothing to do: the gradients are shared."""
