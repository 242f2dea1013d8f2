"""Normalize, of SSD (Liu et al. 2016; ParseNet): y = s x / sqrt(sum x^2 + eps), the sum over the channels of each pixel
or, with across_spatial, over all of an image.

    ds = sum of dy x / |x|,   dx = (s dy - y' sum (s dy y')) / |x|   with y' = x / |x|

s is a parameter: one for all channels (a blob without axes), or one for each.
"""

from __future__ import annotations

import numpy as np

from caffetools.layer import Layer
from caffetools.proto import caffe_pb2


class NormalizeLayer(Layer):
    reads = ("norm_param",)
    exact_bottoms = 1
    exact_tops = 1
    backward_reads = ("bottom",)

    def setup(self, bottom, top):
        self.refuse_in_place(bottom, top)
        param = self.param.norm_param
        self.across_spatial, self.eps = param.across_spatial, self.dtype.type(param.eps)
        self.channels = bottom[0].shape[bottom[0].canonical_axis(1)]
        ones = caffe_pb2.FillerParameter(type="constant", value=1)
        shape = () if param.channel_shared else (self.channels,)
        self.add_param(shape, param.scale_filler if param.HasField("scale_filler") else ones)

    def reshape(self, bottom, top):
        top[0].reshape_like(bottom[0])
        self.matrix = (bottom[0].shape[0], self.channels, bottom[0].count_from(2))
        self.axes = (1, 2) if self.across_spatial else (1,)
        self.unit = np.empty(self.matrix, self.dtype)

    def _scale(self):
        return self.blobs[0].flat_data.reshape(-1, 1)

    def forward(self, bottom, top):
        x, y = bottom[0].flat_data.reshape(self.matrix), top[0].flat_data.reshape(self.matrix)
        self._normalise(x)
        np.multiply(self.unit, self._scale(), out=y)

    def _normalise(self, x):
        np.square(x, out=self.unit)
        self.length = np.sqrt(self.unit.sum(axis=self.axes, keepdims=True) + self.eps)
        np.divide(x, self.length, out=self.unit)

    def backward(self, top, propagate_down, bottom):
        dy = top[0].flat_diff.reshape(self.matrix)
        if self.param_propagate_down[0]:
            gradient = np.einsum("nci,nci->c", dy, self.unit)
            scale = self.blobs[0]
            scale.flat_diff[...] += gradient if scale.shape else gradient.sum()
        if propagate_down[0]:
            dx = bottom[0].flat_diff.reshape(self.matrix)
            np.multiply(dy, self._scale(), out=dx)
            along = (dx * self.unit).sum(axis=self.axes, keepdims=True)
            dx -= self.unit * along
            dx /= self.length
