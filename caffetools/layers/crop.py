"""Crop: cuts bottom 0 to the size of bottom 1 on `axis` (default 2) and all axes after it.

`offset` says where to begin on these axes: 0 if it is not given, one number for all, or one for each.
dx is dy where it was cut out, else 0; bottom 1 gives its shape only and gets no gradient (zeros).
"""

from __future__ import annotations

import numpy as np

from caffetools.glog import check, check_eq
from caffetools.layer import Layer


class CropLayer(Layer):
    exact_bottoms = 2
    exact_tops = 1
    backward_reads = ()

    def setup(self, bottom, top):
        self.refuse_in_place(bottom, top)

    def reshape(self, bottom, top):
        param = self.param.crop_param
        shape, target = bottom[0].shape, bottom[1].shape
        axis, axes = bottom[0].canonical_axis(param.axis), len(shape)
        words = f"both bottoms must have the same number of axes (layer '{self.name}')"
        check_eq(axes, len(target), "bottom[0]->num_axes() == bottom[1]->num_axes()", words)
        offsets = list(param.offset) or [0]
        if len(offsets) == 1:
            offsets *= axes - axis
        words = (
            "number of offset values specified must be equal to the number of dimensions following axis. "
            f"(layer '{self.name}')"
        )
        check_eq(len(offsets) + axis, axes, "param.offset_size() + start_axis == input_dim", words)
        for d, offset in enumerate(offsets, axis):
            check(
                shape[d] - offset >= target[d],
                "bottom[0]->shape(i) - crop_offset >= bottom[1]->shape(i) "
                f"({shape[d] - offset} vs. {target[d]})",
                f"the crop for dimension {d} is out-of-bounds with size {target[d]} and offset {offset} "
                f"(layer '{self.name}')",
            )
        self.cut = tuple(
            slice(offset, offset + size)
            for offset, size in zip([0] * axis + offsets, shape[:axis] + target[axis:], strict=True)
        )
        top[0].reshape(shape[:axis] + target[axis:])

    def forward(self, bottom, top):
        np.copyto(top[0].data, bottom[0].data[self.cut])

    def backward(self, top, propagate_down, bottom):
        if propagate_down[0]:
            dx = bottom[0].diff
            dx.fill(0)
            dx[self.cut] = top[0].diff
        if propagate_down[1]:
            bottom[1].flat_diff.fill(0)
