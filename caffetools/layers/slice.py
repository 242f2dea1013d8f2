"""Slice: cuts the bottom along `axis` (default 1) into its tops, at each `slice_point` or into equal parts.

dx is put together from the dy of all tops. As with Concat, tops may lie in the bottom's memory, and their gradients in
its gradient's.
"""

from __future__ import annotations

from caffetools.glog import check_eq, check_gt, check_le
from caffetools.layer import Layer, Part
from caffetools.layers.concat import axis_of, extract_columns, first_columns, insert_columns


class SliceLayer(Layer):
    exact_bottoms = 1
    min_tops = 1
    backward_reads = ()

    def setup(self, bottom, top):
        self.refuse_in_place(bottom, top)

    def reshape(self, bottom, top):
        axis = axis_of(self, bottom[0], self.param.slice_param, "slice_dim")
        shape = bottom[0].shape
        for blob, size in zip(top, self._sizes(shape[axis], len(top)), strict=True):
            blob.reshape((*shape[:axis], size, *shape[axis + 1 :]))
        self.matrix = bottom[0].count_from(0, axis), bottom[0].count_from(axis)
        self.firsts = first_columns([blob.count_from(axis) for blob in top])

    def _sizes(self, size, tops):
        """Return how much of the axis each top gets."""
        points, where = list(self.param.slice_param.slice_point), f"(layer '{self.name}')"
        if not points:
            words = f"Number of top blobs ({tops}) should evenly divide input slice axis ({size}) {where}"
            check_eq(size % tops, 0, "bottom_slice_axis % top.size() == 0", words)
            return [size // tops] * tops
        words = f"slice_point is given for all tops but one {where}"
        check_eq(len(points), tops - 1, "slice_point_.size() == top.size() - 1", words)
        check_le(tops, size, "top.size() <= bottom_slice_axis", where)
        edges = [0, *points, size]
        for before, after in zip(edges[:-1], edges[1:], strict=True):
            check_gt(after, before, "slice_point_[i] > prev", f"slice points must rise, below {size} {where}")
        return [after - before for before, after in zip(edges[:-1], edges[1:], strict=True)]

    def data_parts(self, bottom, top):
        if self.matrix[0] != 1:
            return []
        return [Part(bottom[0], blob, first) for blob, first in zip(top, self.firsts, strict=True)]

    def diff_parts(self, bottom, top):
        if self.matrix[0] != 1:
            return []
        return [Part(blob, bottom[0], first) for blob, first in zip(top, self.firsts, strict=True)]

    def forward(self, bottom, top):
        x = bottom[0].flat_data.reshape(self.matrix)
        for blob, first in zip(top, self.firsts, strict=True):
            extract_columns(x, first, blob.flat_data)

    def backward(self, top, propagate_down, bottom):
        if not propagate_down[0]:
            return
        dx = bottom[0].flat_diff.reshape(self.matrix)
        for blob, first in zip(top, self.firsts, strict=True):
            insert_columns(blob.flat_diff, dx, first)
