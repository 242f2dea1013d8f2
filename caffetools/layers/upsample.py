"""Upsample: enlarges planes, in one of two ways.

With two bottoms it is that of SegNet (Badrinarayanan et al. 2017), the inverse of max pooling: bottom 1 holds, for each
value of bottom 0, the index in the top's plane where it goes; all else is 0. With one bottom it is that of YOLO's
converters: every pixel is repeated `scale` times along both axes.

The top has `scale` times (2 with indices, else 1) the rows and columns, less one with pad_out_h or pad_out_w, or
upsample_h and upsample_w of them.
"""

from __future__ import annotations

import numpy as np

from caffetools.engine.cpu.jit import kernel
from caffetools.glog import check, check_eq, check_gt, fatal
from caffetools.layer import Layer
from caffetools.parts.spatial import check_planes


class UpsampleLayer(Layer):
    min_bottoms = 1
    max_bottoms = 2
    exact_tops = 1
    backward_reads = ("bottom[1]",)

    def setup(self, bottom, top):
        self.refuse_in_place(bottom, top)
        param, where = self.param.upsample_param, f"(layer '{self.name}')"
        self.by_index = len(bottom) > 1
        default = param.scale if param.HasField("scale") else 2 if self.by_index else 1
        self.scale = [getattr(param, f"scale_{axis}") or default for axis in "hw"]
        check_gt(min(self.scale), 0, "scale > 0", where)
        self.size = [param.upsample_h, param.upsample_w] if param.HasField("upsample_h") else None
        both = param.HasField("upsample_h") == param.HasField("upsample_w")
        check(both, "has_upsample_h() == has_upsample_w()", f"upsample_h and upsample_w go together {where}")
        self.less = [param.pad_out_h, param.pad_out_w]
        words = f"without indices every pixel is repeated: scale alone says how often {where}"
        check(self.by_index or not (self.size or any(self.less)), "bottom.size() == 2", words)

    def reshape(self, bottom, top):
        check_planes(self, bottom[0])
        n, c, *sizes = bottom[0].shape
        scaled = [size * scale - less for size, scale, less in zip(sizes, self.scale, self.less, strict=True)]
        top[0].reshape((n, c, *(self.size or scaled)))
        if self.by_index:
            words = f"there must be an index for each value (layer '{self.name}')"
            check_eq(bottom[0].shape, bottom[1].shape, "bottom[0]->shape() == bottom[1]->shape()", words)
        self.planes, self.top_planes = (n * c, bottom[0].count_from(2)), (n * c, top[0].count_from(2))
        (height, width), (tall, wide) = sizes, self.scale
        self.repeated = (n * c, height, tall, width, wide)
        self.small = (n * c, height, 1, width, 1)

    def forward(self, bottom, top):
        y = top[0].flat_data
        if not self.by_index:
            y.reshape(self.repeated)[...] = bottom[0].flat_data.reshape(self.small)
            return
        x, index = (blob.flat_data.reshape(self.planes) for blob in bottom)
        wrong = place(x, index, y.reshape(self.top_planes))
        if wrong >= 0:
            self.refuse_index(wrong, bottom[1].flat_data[wrong])

    def refuse_index(self, position: int, value: float) -> None:
        """Refuse an index that is no place in the top's plane."""
        fatal(
            f"upsample top index {value:g} out of range (element {position} of the indices; a plane of the top has "
            f"{self.top_planes[1]} elements) (layer '{self.name}')"
        )

    def backward(self, top, propagate_down, bottom):
        words = f"Upsample cannot backpropagate to indices (layer '{self.name}')"
        check(not any(propagate_down[1:]), "!propagate_down[1]", words)
        if not propagate_down[0]:
            return
        dx, dy = bottom[0].flat_diff, top[0].flat_diff
        if self.by_index:
            pick(dy.reshape(self.top_planes), bottom[1].flat_data.reshape(self.planes), dx.reshape(self.planes))
        else:
            np.sum(dy.reshape(self.repeated), axis=(2, 4), keepdims=True, out=dx.reshape(self.small))

    def allow_force_backward(self, bottom_index):
        return bottom_index == 0


@kernel
def place(x, index, y):
    """Write each value to its place; return the position of an index that is none, or -1."""
    y[:] = 0
    for plane in range(x.shape[0]):
        for i in range(x.shape[1]):
            where = index[plane, i]
            # On the float, so that a NaN is refused as well.
            if not -1 < where < y.shape[1]:
                return plane * x.shape[1] + i
            y[plane, int(where)] = x[plane, i]
    return -1


@kernel
def pick(dy, index, dx):
    for plane in range(dx.shape[0]):
        for i in range(dx.shape[1]):
            dx[plane, i] = dy[plane, int(index[plane, i])]
