"""ShuffleChannel (Zhang et al. 2018, ShuffleNet): the channels of `group` groups are dealt out in turn.

Channel a of group g, of C / group in each, becomes channel a * group + g.
"""

from __future__ import annotations

import numpy as np

from caffetools.glog import check_eq, check_gt
from caffetools.layer import Layer


class ShuffleChannelLayer(Layer):
    exact_bottoms = 1
    exact_tops = 1
    backward_reads = ()

    def setup(self, bottom, top):
        self.refuse_in_place(bottom, top)
        self.group = self.param.shuffle_channel_param.group
        check_gt(self.group, 0, "group > 0", f"(layer '{self.name}')")

    def reshape(self, bottom, top):
        channels = bottom[0].shape[bottom[0].canonical_axis(1)]
        words = f"the channels must be a multiple of group (layer '{self.name}')"
        check_eq(channels % self.group, 0, "channels % group == 0", words)
        top[0].reshape_like(bottom[0])
        items, plane = bottom[0].shape[0], bottom[0].count_from(2)
        self.grouped = (items, self.group, channels // self.group, plane)
        self.dealt = (items, channels // self.group, self.group, plane)

    def forward(self, bottom, top):
        x = bottom[0].flat_data.reshape(self.grouped)
        np.copyto(top[0].flat_data.reshape(self.dealt), x.swapaxes(1, 2))

    def backward(self, top, propagate_down, bottom):
        if propagate_down[0]:
            dy = top[0].flat_diff.reshape(self.dealt)
            np.copyto(bottom[0].flat_diff.reshape(self.grouped), dy.swapaxes(1, 2))
