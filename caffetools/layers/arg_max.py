"""ArgMax: the indices (as floats) of the top_k largest values, the largest first; no gradient; not in place.

Without `axis` each item of the first axis is searched as a whole: the top is (N, 1, k) with the indices, or
(N, 2, k) with the indices and then the values (out_max_val), and has as many axes as the bottom where these
are more than three. With `axis` that axis is searched at every position: its size becomes k, and it holds
the indices, or the values alone (out_max_val). Of equal values the one with the larger index comes first.
"""

from __future__ import annotations

import numpy as np

from caffetools.engine.cpu.jit import kernel
from caffetools.glog import check_ge, check_le
from caffetools.layer import Layer


class ArgMaxLayer(Layer):
    reads = ("argmax_param",)
    exact_bottoms = 1
    exact_tops = 1
    backward_reads = ()

    def setup(self, bottom, top):
        self.refuse_in_place(bottom, top)
        param = self.param.argmax_param
        self.top_k, self.out_max_val = param.top_k, param.out_max_val
        self.axis = param.axis if param.HasField("axis") else None
        check_ge(self.top_k, 1, "top_k_ >= 1", f"top k must not be less than 1. (layer '{self.name}')")

    def reshape(self, bottom, top):
        whole = self.axis is None
        axis = 1 + bottom[0].canonical_axis(0) if whole else bottom[0].canonical_axis(self.axis)
        self.classes = bottom[0].count_from(1) if whole else bottom[0].shape[axis]
        self.inner = 1 if whole else bottom[0].count_from(axis + 1)
        self.outer = bottom[0].count_from(0, axis)
        of_what = "the flattened bottom blob per instance" if whole else "the axis"
        words = f"top_k must be less than or equal to the dimension of {of_what}. (layer '{self.name}')"
        check_le(self.top_k, self.classes, "top_k_ <= bottom[0]->count(axis)", words)
        shape = list(bottom[0].shape)
        if whole:
            shape = [shape[0], 2 if self.out_max_val else 1, self.top_k] + [1] * (len(shape) - 3)
        else:
            shape[axis] = self.top_k
        top[0].reshape(shape)
        self.indices = np.empty((self.outer, self.top_k, self.inner), self.dtype)
        self.values = np.empty_like(self.indices)

    def forward(self, bottom, top):
        x = bottom[0].flat_data.reshape(self.outer, self.classes, self.inner)
        largest(x, self.indices, self.values)
        if self.axis is None and self.out_max_val:
            y = top[0].flat_data.reshape(self.outer, 2, self.top_k)
            y[:, 0], y[:, 1] = self.indices[:, :, 0], self.values[:, :, 0]
        else:
            top[0].flat_data[:] = (self.values if self.out_max_val else self.indices).reshape(-1)


@kernel
def largest(x, indices, values):
    """Insert every value into a short list that is kept in order, behind the larger ones."""
    outer, classes, inner = x.shape
    top_k = values.shape[1]
    for o in range(outer):
        for i in range(inner):
            length = 0
            for c in range(classes):
                v = x[o, c, i]
                place = length
                while place > 0 and v >= values[o, place - 1, i]:
                    place -= 1
                if place == top_k:
                    continue
                length = min(length + 1, top_k)
                for j in range(length - 1, place, -1):
                    values[o, j, i] = values[o, j - 1, i]
                    indices[o, j, i] = indices[o, j - 1, i]
                values[o, place, i] = v
                indices[o, place, i] = c
