"""Two Python layers with a setting, for the tables of tests."""

from __future__ import annotations

import caffetools.pycaffe as caffe


class Times(caffe.Layer):
    """y = 2 x, or as many times x as param_str says."""

    def setup(self, bottom, top):
        self.factor = float(self.param_str or 2)

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom, top):
        top[0].data[...] = self.factor * bottom[0].data

    def backward(self, top, propagate_down, bottom):
        if propagate_down[0]:
            bottom[0].diff[...] = self.factor * top[0].diff


class Plus(Times):
    """y = x + 2."""

    def forward(self, bottom, top):
        top[0].data[...] = bottom[0].data + self.factor

    def backward(self, top, propagate_down, bottom):
        if propagate_down[0]:
            bottom[0].diff[...] = top[0].diff


class Affine(caffe.Layer):
    """y = w x + b, for one number w and a vector b with the length of the last axis."""

    def setup(self, bottom, top):
        self.blobs.add_blob()
        self.blobs.add_blob(bottom[0].shape[-1])
        self.blobs[0].data[...] = 3

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom, top):
        w, b = self.blobs
        top[0].data[...] = bottom[0].data * w.data + b.data

    def backward(self, top, propagate_down, bottom):
        w, b = self.blobs
        w.diff[...] += (bottom[0].data * top[0].diff).sum()
        b.diff[...] += top[0].diff.reshape(-1, b.data.size).sum(0)
        if propagate_down[0]:
            bottom[0].diff[...] = top[0].diff * w.data
