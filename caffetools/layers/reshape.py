"""Reshape: the same numbers under another shape; they are shared, not copied.

The `num_axes` axes (-1: all) from `axis` on are replaced by `shape`, in which 0 copies the size of the
bottom's axis at that place and one -1 is inferred from the rest. A negative `axis` counts from behind the
last: -1 appends.
"""

from __future__ import annotations

from math import prod

from caffetools.glog import check, check_eq, check_ge, check_gt, check_le
from caffetools.layer import Layer


class ReshapeLayer(Layer):
    exact_bottoms = 1
    exact_tops = 1
    backward_reads = ()

    def setup(self, bottom, top):
        self.refuse_in_place(bottom, top)
        param = self.param.reshape_param
        self.sizes, self.axis, self.num_axes = list(param.shape.dim), param.axis, param.num_axes
        words = "new shape contains multiple -1 dims; at most a single (1) value of -1 may be specified"
        check(self.sizes.count(-1) <= 1, "inferred_axis_ == -1", f"{words} (layer '{self.name}')")

    def reshape(self, bottom, top):
        start, end = self._range(len(bottom[0].shape))
        shape = bottom[0].shape
        before, after = shape[:start], shape[end:]
        sizes = [self._copied(shape, start + i) if size == 0 else size for i, size in enumerate(self.sizes)]
        if -1 in sizes:
            known = prod(before) * prod(after) * prod(size for size in sizes if size != -1)
            count = bottom[0].count
            words = (
                f"bottom count ({count}) must be divisible by the product of the specified dimensions "
                f"({known}) (layer '{self.name}')"
            )
            check(known != 0 and count % known == 0, "0 == bottom[0]->count() % explicit_count", words)
            sizes[sizes.index(-1)] = count // known
        top[0].reshape((*before, *sizes, *after))
        words = f"output count must match input count (layer '{self.name}')"
        check_eq(top[0].count, bottom[0].count, "top[0]->count() == bottom[0]->count()", words)
        top[0].share_data(bottom[0])
        top[0].share_diff(bottom[0])

    def _range(self, axes):
        """Return the first axis that is replaced and the one behind the last."""
        start = self.axis if self.axis >= 0 else axes + self.axis + 1
        words = f"axis {self.axis} out of range for {axes}-D input blob (layer '{self.name}')"
        check_ge(start, 0, "start_axis >= 0", words)
        check_le(start, axes, "start_axis <= bottom[0]->num_axes()", words)
        words = f"num_axes must be >= 0, or -1 for all (layer '{self.name}')"
        check_ge(self.num_axes, -1, "num_axes >= -1", words)
        end = axes if self.num_axes == -1 else start + self.num_axes
        words = f"end_axis = axis + num_axes is out of range (layer '{self.name}')"
        check_le(end, axes, "end_axis <= bottom[0]->num_axes()", words)
        return start, end

    def _copied(self, shape, axis):
        words = "new shape contains a 0, but there was no corresponding bottom axis to copy"
        check_gt(len(shape), axis, "bottom[0]->num_axes() > start_axis + i", f"{words} (layer '{self.name}')")
        return shape[axis]

    def forward(self, bottom, top):
        # Once more: the layer below may have moved its top to other storage.
        top[0].share_data(bottom[0])

    def backward(self, top, propagate_down, bottom):
        """Nothing to do: the gradients are shared."""
