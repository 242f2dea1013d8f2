"""PReLU (He et al. 2015): y = max(x, 0) + a_c min(x, 0), a learnt slope for each channel; may work in place.

    dx = dy          where x > 0,   a_c dy   elsewhere
    da_c = sum dy x  over the elements of channel c where x <= 0

The bottom is seen as N C planes. With channel_shared there is one slope for all channels, a blob without
axes.
"""

from __future__ import annotations

import numba
import numpy as np

from caffetools.engine.cpu.jit import parallel_kernel
from caffetools.engine.cpu.sums import dot_below
from caffetools.glog import check_eq, check_ge
from caffetools.parts.elementwise import ElementwiseLayer
from caffetools.proto import caffe_pb2


class PReLULayer(ElementwiseLayer):
    needs_input = True

    def setup(self, bottom, top):
        axes = len(bottom[0].shape)
        words = f"Number of axes of bottom blob must be >=2. (layer '{self.name}')"
        check_ge(axes, 2, "bottom[0]->num_axes() >= 2", words)
        param = self.param.prelu_param
        self.channel_shared = param.channel_shared
        self.channels = bottom[0].shape[1]
        slope_filler = caffe_pb2.FillerParameter(type="constant", value=0.25)
        if param.HasField("filler"):
            slope_filler = param.filler
        self.slope = self.add_param(() if self.channel_shared else (self.channels,), slope_filler)
        # One slope for each channel in any case, which is what the kernels take.
        self.slopes = np.empty(self.channels, self.dtype)
        self.slope_gradients = np.empty(self.channels, self.dtype)

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        words = f"The number of channels must not change. (layer '{self.name}')"
        check_eq(bottom[0].shape[1], self.channels, "bottom[0]->channels() == channels", words)
        self.planes = (bottom[0].count_from(0, 2), bottom[0].count_from(2))

    def apply(self, x, y):
        self.slopes[:] = self.slope.data
        prelu_forward(x.reshape(self.planes), self.slopes, y.reshape(self.planes))

    def backward(self, top, propagate_down, bottom):
        if self.param_propagate_down[0]:
            x = self.input_of(bottom)
            dy = top[0].flat_diff.reshape(self.planes)
            prelu_backward_slopes(x.reshape(self.planes), dy, self.slope_gradients)
            total = self.slope_gradients.sum() if self.channel_shared else self.slope_gradients
            self.slope.diff[...] += total
        super().backward(top, propagate_down, bottom)

    def gradient(self, x, y, dy, dx):
        self.slopes[:] = self.slope.data
        x, dy, dx = (array.reshape(self.planes) for array in (x, dy, dx))
        prelu_backward(x, dy, self.slopes, dx)


@parallel_kernel
def prelu_forward(x, slopes, y):
    zero = x.dtype.type(0)
    for plane in numba.prange(x.shape[0]):
        slope = slopes[plane % slopes.size]
        for i in range(x.shape[1]):
            v = x[plane, i]
            # The comparison is written so that a NaN goes through unchanged.
            y[plane, i] = slope * v if v < zero else v


@parallel_kernel
def prelu_backward(x, dy, slopes, dx):
    zero = x.dtype.type(0)
    for plane in numba.prange(x.shape[0]):
        slope = slopes[plane % slopes.size]
        for i in range(x.shape[1]):
            dx[plane, i] = dy[plane, i] if x[plane, i] > zero else slope * dy[plane, i]


@parallel_kernel
def prelu_backward_slopes(x, dy, slope_gradients):
    """Write the gradient of each channel's slope; a channel is summed by one thread, in a fixed order."""
    channels = slope_gradients.size
    for c in numba.prange(channels):
        sum_of_planes = x.dtype.type(0)
        for plane in range(c, x.shape[0], channels):
            sum_of_planes += dot_below(dy[plane], x[plane])
        slope_gradients[c] = sum_of_planes
