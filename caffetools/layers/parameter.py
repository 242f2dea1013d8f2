"""Parameter: a learnable blob of any shape, zero at first, shown as a top."""

from __future__ import annotations

from caffetools.layer import Layer
from caffetools.proto import caffe_pb2


class ParameterLayer(Layer):
    exact_bottoms = 0
    exact_tops = 1

    def setup(self, bottom, top):
        self.value = self.add_param(tuple(self.param.parameter_param.shape.dim), caffe_pb2.FillerParameter())

    def reshape(self, bottom, top):
        top[0].reshape_like(self.value)
        top[0].share_data(self.value)

    def forward(self, bottom, top):
        # Once more: the net may have given the parameter other storage.
        top[0].share_data(self.value)

    def backward(self, top, propagate_down, bottom):
        if self.param_propagate_down[0]:
            self.value.flat_diff[:] += top[0].flat_diff
