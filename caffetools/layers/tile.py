"""Tile: the axis `axis` (1) repeated `tiles` times; not in place.

The bottom is seen as (outer, inner), where inner holds the axis and all that follow, the top as (outer,
tiles, inner):

    y[o, t, i] = x[o, i],   dx[o, i] = sum_t dy[o, t, i]
"""

from __future__ import annotations

import numpy as np

from caffetools.glog import check, check_gt
from caffetools.layer import Layer


class TileLayer(Layer):
    exact_bottoms = 1
    exact_tops = 1
    backward_reads = ()

    def setup(self, bottom, top):
        self.refuse_in_place(bottom, top)
        param = self.param.tile_param
        words = f"Number of tiles must be specified (layer '{self.name}')"
        check(param.HasField("tiles"), "tile_param.has_tiles()", words)
        check_gt(param.tiles, 0, "tiles_ > 0", f"Number of tiles must be positive. (layer '{self.name}')")
        self.axis, self.tiles = param.axis, param.tiles

    def reshape(self, bottom, top):
        axis = bottom[0].canonical_axis(self.axis)
        shape = list(bottom[0].shape)
        shape[axis] *= self.tiles
        top[0].reshape(shape)
        self.outer, self.inner = bottom[0].count_from(0, axis), bottom[0].count_from(axis)

    def forward(self, bottom, top):
        x = bottom[0].flat_data.reshape(self.outer, 1, self.inner)
        top[0].flat_data.reshape(self.outer, self.tiles, self.inner)[...] = x

    def backward(self, top, propagate_down, bottom):
        if propagate_down[0]:
            dy = top[0].flat_diff.reshape(self.outer, self.tiles, self.inner)
            np.sum(dy, axis=1, out=bottom[0].flat_diff.reshape(self.outer, self.inner))
