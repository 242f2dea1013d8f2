"""ROIPooling (Girshick 2015, Fast R-CNN): the largest value in each of pooled_h x pooled_w parts of every region.

Bottoms: x (N, C, H, W) and regions (R, 5): the item's index, then x1, y1, x2, y2, both corners included, in coordinates
that `spatial_scale` brings to those of x, rounded. Part (i, j) of a region of h x w spans rows floor(i h / pooled_h) to
ceil((i + 1) h / pooled_h) and columns likewise, within the plane; an empty part gives 0. The top is (R, C, pooled_h,
pooled_w).

dx gathers dy where the largest value was.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from caffetools.blob import Blob
from caffetools.engine.cpu.jit import kernel, parallel_kernel
from caffetools.glog import check, check_eq, check_gt, fatal
from caffetools.layer import Layer
from caffetools.parts.spatial import check_planes


class ROIPoolingLayer(Layer):
    exact_bottoms = 2
    exact_tops = 1
    backward_reads = ("bottom[1]",)

    def setup(self, bottom, top):
        self.refuse_in_place(bottom, top)
        param, where = self.param.roi_pooling_param, f"(layer '{self.name}')"
        check_gt(param.pooled_h, 0, "pooled_h > 0", f"pooled_h must be > 0 {where}")
        check_gt(param.pooled_w, 0, "pooled_w > 0", f"pooled_w must be > 0 {where}")
        self.parts = (param.pooled_h, param.pooled_w)
        self.spatial_scale = self.dtype.type(param.spatial_scale)
        self.index_blob = Blob((0,), np.int32)

    def reshape(self, bottom, top):
        check_planes(self, bottom[0])
        words = f"a region is the item's index and four coordinates (layer '{self.name}')"
        check_eq(bottom[1].count_from(1), 5, "bottom[1]->count(1) == 5", words)
        regions, channels = bottom[1].shape[0], bottom[0].shape[1]
        top[0].reshape((regions, channels, *self.parts))
        self.index_blob.reshape(top[0].shape)
        self.corners = np.empty((regions, 5), np.int64)

    def kept(self):
        return [self.index_blob]

    def allow_force_backward(self, bottom_index):
        return bottom_index == 0

    def forward(self, bottom, top):
        regions = bottom[1].data.reshape(-1, 5)
        wrong = round_regions(regions, self.spatial_scale, bottom[0].shape[0], self.corners)
        if wrong >= 0:
            fatal(
                f"Check failed: roi_batch_ind < batch_size region {wrong} is of item {regions[wrong, 0]:g}; the batch "
                f"has {bottom[0].shape[0]} (layer '{self.name}')"
            )
        roi_pool(bottom[0].data, self.corners, top[0].data, self.index_blob.data)

    def backward(self, top, propagate_down, bottom):
        words = f"ROIPooling cannot backpropagate to regions (layer '{self.name}')"
        check(not propagate_down[1], "!propagate_down[1]", words)
        if propagate_down[0]:
            dx = bottom[0].diff
            roi_pool_backward(top[0].diff, self.corners, self.index_blob.data, dx.reshape(*dx.shape[:2], -1))


@kernel
def round_regions(regions, scale, items, corners):
    """Write item and corners as integers; return the number of a region whose item is none, or -1."""
    for region in range(regions.shape[0]):
        # On the float, so that a NaN is refused as well.
        if not -1 < regions[region, 0] < items:
            return region
        corners[region, 0] = int(regions[region, 0])
        for k in range(1, 5):
            value = regions[region, k] * scale
            # Halves are rounded away from zero, as C does.
            corners[region, k] = int(math.floor(abs(value) + 0.5)) * (1 if value >= 0 else -1)
    return -1


@parallel_kernel
def roi_pool(x, corners, y, index):
    height, width = x.shape[2:]
    tall, wide = y.shape[2:]
    for region in numba.prange(corners.shape[0]):
        item, left, top, right, bottom = corners[region]
        # A region that is none is taken for one element.
        h, w = max(bottom - top + 1, 1), max(right - left + 1, 1)
        for c in range(x.shape[1]):
            for i in range(tall):
                first = min(max(top + (i * h) // tall, 0), height)
                last = min(max(top + -((-(i + 1) * h) // tall), 0), height)
                for j in range(wide):
                    begin = min(max(left + (j * w) // wide, 0), width)
                    end = min(max(left + -((-(j + 1) * w) // wide), 0), width)
                    best, where = x.dtype.type(0), -1
                    for row in range(first, last):
                        for column in range(begin, end):
                            v = x[item, c, row, column]
                            # A NaN wins, so that it stays visible.
                            if where < 0 or v > best or v != v:
                                best, where = v, row * width + column
                    y[region, c, i, j] = best
                    index[region, c, i, j] = where


@parallel_kernel
def roi_pool_backward(dy, corners, index, dx):
    """A channel is looked after by one thread, and its regions in their order."""
    for c in numba.prange(dx.shape[1]):
        dx[:, c] = 0
        for region in range(corners.shape[0]):
            item = corners[region, 0]
            for i in range(dy.shape[2]):
                for j in range(dy.shape[3]):
                    where = index[region, c, i, j]
                    if where >= 0:
                        dx[item, c, where] += dy[region, c, i, j]
