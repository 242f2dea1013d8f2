"""BatchReindex: rows of bottom 0 in the order of the indices in bottom 1, each as often as it occurs there.

    y[i] = x[index[i]]     dx[j] = sum dy[i] over the i with index[i] = j
"""

from __future__ import annotations

import numpy as np

from caffetools.glog import check, check_eq
from caffetools.layer import Layer


class BatchReindexLayer(Layer):
    exact_bottoms = 2
    exact_tops = 1
    backward_reads = ()

    def setup(self, bottom, top):
        self.refuse_in_place(bottom, top)

    def reshape(self, bottom, top):
        words = f"the indices must have one axis. (layer '{self.name}')"
        check_eq(1, len(bottom[1].shape), "1 == bottom[1]->num_axes()", words)
        bottom[0].canonical_axis(0)  # there must be one
        top[0].reshape((*bottom[1].shape, *bottom[0].shape[1:]))

    def forward(self, bottom, top):
        self.rows = self.check_indices(bottom[1].flat_data, bottom[0].shape[0])
        # The indices are right, and other modes than "clip" write through a buffer.
        np.take(bottom[0].data, self.rows, axis=0, out=top[0].data, mode="clip")

    def check_indices(self, indices: np.ndarray, rows: int) -> np.ndarray:
        """Return float indices as integers. Errors: FatalError for one that is no row."""
        too_large = f"greater than batch size {rows}"
        for wrong, what in ((~(indices >= 0), "negative"), (indices >= rows, too_large)):
            if wrong.any():
                i = int(np.argmax(wrong))
                words = f"Index specified for reindex layer was {what}: {indices[i]:g} at index {i}"
                check(False, "index >= 0 && index < batch size", f"{words} (layer '{self.name}')")
        return indices.astype(np.intp)

    def backward(self, top, propagate_down, bottom):
        check(not propagate_down[1], "!propagate_down[1]", f"Cannot backprop to index. (layer '{self.name}')")
        if propagate_down[0]:
            bottom[0].flat_diff.fill(0)
            np.add.at(bottom[0].diff, self.rows, top[0].diff)

    def allow_force_backward(self, bottom_index):
        return bottom_index != 1
