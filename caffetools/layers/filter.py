"""Filter: the rows (first axis) of its bottoms for which the last bottom, the selector, is not zero.

    y = x[selected]     dx[selected] = dy,   dx = 0 elsewhere

Top i is the filtered bottom i. The number of rows is known in the forward pass only: while the net is
built, every row counts as selected. Where nothing is selected the tops have no rows.
"""

from __future__ import annotations

import numpy as np

from caffetools.glog import check_eq, fatal
from caffetools.layer import Layer


class FilterLayer(Layer):
    min_bottoms = 2
    min_tops = 1
    backward_reads = ()
    reshape_every_forward = True

    def setup(self, bottom, top):
        self.refuse_in_place(bottom, top)
        words = f"there is one top for each bottom but the last, the selector. (layer '{self.name}')"
        check_eq(len(top), len(bottom) - 1, "top.size() == bottom.size() - 1", words)
        self.first_reshape = True

    def reshape(self, bottom, top):
        *data, selector = bottom
        rows = selector.shape[selector.canonical_axis(0)]
        words = f"Selector blob dimensions must be singletons (1), except the first (layer '{self.name}')"
        for size in selector.shape[1:]:
            check_eq(size, 1, "bottom[selector_index]->shape(i) == 1", words)
        words = f"Each bottom should have the same 0th dimension as the selector blob (layer '{self.name}')"
        for blob in data:
            others = blob.shape[blob.canonical_axis(0)]
            check_eq(rows, others, "bottom[selector_index]->shape(0) == bottom[i]->shape(0)", words)
        self.selected = np.flatnonzero(selector.cpu_data)
        if not self.first_reshape:
            rows = len(self.selected)
        self.first_reshape = False
        for above, below in zip(top, data, strict=True):
            above.reshape((rows, *below.shape[1:]))

    def forward(self, bottom, top):
        for above, below in zip(top, bottom[:-1], strict=True):
            # The indices are right, and other modes than "clip" write through a buffer.
            np.take(below.data, self.selected, axis=0, out=above.data, mode="clip")

    def backward(self, top, propagate_down, bottom):
        if propagate_down[-1]:
            fatal(f"{self.type} Layer cannot backpropagate to filter index inputs (layer '{self.name}')")
        for above, below, wanted in zip(top, bottom[:-1], propagate_down[:-1], strict=True):
            if wanted:
                below.flat_diff.fill(0)
                below.diff[self.selected] = above.diff

    def allow_force_backward(self, bottom_index):
        return bottom_index != len(self.param.bottom) - 1
