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
