"""SPP, spatial pyramid pooling (He et al. 2014): pooled planes of 1, 4, 16, ... bins, one after another.

Level l of `pyramid_height` h levels has 2^l x 2^l bins: a Pooling layer with kernel = stride = ceil(size /
bins) and half of what the bins span beyond the plane as padding. Their tops are flattened and joined to (N, C
(4^h - 1) / 3), whatever the size of the bottom (N, C, H, W); with one level the pooled planes (N, C, 1, 1)
are given as they are.
"""

from __future__ import annotations

import numpy as np

from caffetools.glog import check_gt, check_lt
from caffetools.layer import Layer
from caffetools.layers.pooling import PoolingLayer
from caffetools.parts.spatial import check_planes
from caffetools.proto import caffe_pb2


class SPPLayer(Layer):
    exact_bottoms = 1
    exact_tops = 1
    backward_reads = ()

    def setup(self, bottom, top):
        where = f"(layer '{self.name}')"
        self.height = self.param.spp_param.pyramid_height
        check_gt(self.height, 0, "pyramid_height_ > 0", where)
        self.refuse_in_place(bottom, top)
        self.plane = None
        # A second look at the bottom, whose diff takes the levels' gradients in turn.
        self.part = self.context.blob()

    def reshape(self, bottom, top):
        check_planes(self, bottom[0])
        n, _, *plane = bottom[0].shape
        for size in plane:
            check_gt(size, 0, "bottom_h_ > 0", f"Input dimensions cannot be zero. (layer '{self.name}')")
        if plane != self.plane:
            self.poolings = [self._pooling(2**level, plane) for level in range(self.height)]
            self.pooled = [self.context.blob() for _ in self.poolings]
            for pooling, blob in zip(self.poolings, self.pooled, strict=True):
                pooling.setup(bottom, [blob])
            self.plane = plane
        for pooling, blob in zip(self.poolings, self.pooled, strict=True):
            pooling.reshape(bottom, [blob])
        self.part.reshape_like(bottom[0])
        self.matrix = n, sum(blob.count_from(1) for blob in self.pooled)
        top[0].reshape(self.matrix if self.height > 1 else self.pooled[0].shape)

    def _pooling(self, bins, plane):
        param = caffe_pb2.LayerParameter(name=self.name, type="Pooling")
        pooling = param.pooling_param
        pooling.pool = self.param.spp_param.pool
        kernel = [-(-size // bins) for size in plane]
        pad = [(k * bins - size + 1) // 2 for k, size in zip(kernel, plane, strict=True)]
        for k, p, axis in zip(kernel, pad, "hw", strict=True):
            words = (
                f"pyramid_height {self.height} has a level of {bins} x {bins} bins, too many for a plane of "
                f"{plane[0]} x {plane[1]} (layer '{self.name}')"
            )
            check_lt(p, k, f"pad_{axis}_ < kernel_{axis}_", words)
        pooling.kernel_h, pooling.kernel_w = kernel
        pooling.stride_h, pooling.stride_w = kernel
        pooling.pad_h, pooling.pad_w = pad
        return PoolingLayer(param, self.context)

    def forward(self, bottom, top):
        y = top[0].flat_data.reshape(self.matrix)
        first = 0
        for pooling, blob in zip(self.poolings, self.pooled, strict=True):
            pooling.forward(bottom, [blob])
            size = blob.count_from(1)
            y[:, first : first + size] = blob.flat_data.reshape(-1, size)
            first += size

    def backward(self, top, propagate_down, bottom):
        if not propagate_down[0]:
            return
        dy, dx = top[0].flat_diff.reshape(self.matrix), bottom[0].flat_diff
        dx.fill(0)
        first = 0
        for pooling, blob in zip(self.poolings, self.pooled, strict=True):
            size = blob.count_from(1)
            blob.flat_diff.reshape(-1, size)[...] = dy[:, first : first + size]
            pooling.backward([blob], [True], [self.part])
            np.add(dx, self.part.flat_diff, out=dx)
            first += size

    def get_state(self):
        states = [pooling.get_state() for pooling in self.poolings]
        return {"poolings": states} if any(states) else None

    def set_state(self, state):
        for pooling, saved in zip(self.poolings, state["poolings"], strict=True):
            pooling.set_state(saved)
