"""PReLU (He et al. 2015): y = max(x, 0) + a_c min(x, 0), a learnt slope for each channel; may work in place.

    dx = dy          where x > 0,   a_c dy   elsewhere
    da_c = sum dy x  over the elements of channel c where x <= 0

The bottom is seen as (N, C, inner). With channel_shared there is one slope for all channels, a blob without
axes.
"""

from __future__ import annotations

import numba
import numpy as np

from caffetools.elementwise import ElementwiseLayer
from caffetools.engine.cpu.jit import parallel_kernel
from caffetools.glog import check_eq, check_ge
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
        self.inner = bottom[0].count_from(2)

    def apply(self, x, y):
        self.slopes[:] = self.slope.data
        prelu_forward(x, self.slopes, self.inner, y)

    def backward(self, top, propagate_down, bottom):
        if self.param_propagate_down[0]:
            x = bottom[0].flat_data if self.kept_input is None else self.kept_input
            prelu_backward_slopes(x, top[0].flat_diff, self.inner, self.slope_gradients)
            total = self.slope_gradients.sum() if self.channel_shared else self.slope_gradients
            self.slope.diff[...] += total
        super().backward(top, propagate_down, bottom)

    def gradient(self, x, y, dy, dx):
        self.slopes[:] = self.slope.data
        prelu_backward(x, dy, self.slopes, self.inner, dx)


@parallel_kernel
def prelu_forward(x, slopes, inner, y):
    zero = x.dtype.type(0)
    for plane in numba.prange(x.size // max(1, inner)):
        slope = slopes[plane % slopes.size]
        for i in range(plane * inner, (plane + 1) * inner):
            v = x[i]
            # The comparison is written so that a NaN goes through unchanged.
            y[i] = slope * v if v < zero else v


@parallel_kernel
def prelu_backward(x, dy, slopes, inner, dx):
    zero = x.dtype.type(0)
    for plane in numba.prange(x.size // max(1, inner)):
        slope = slopes[plane % slopes.size]
        for i in range(plane * inner, (plane + 1) * inner):
            dx[i] = dy[i] if x[i] > zero else slope * dy[i]


@parallel_kernel
def prelu_backward_slopes(x, dy, inner, slope_gradients):
    """Write the gradient of each channel's slope; a channel is summed by one thread, in a fixed order."""
    zero = x.dtype.type(0)
    channels = slope_gradients.size
    step = channels * inner
    for c in numba.prange(channels):
        total = zero
        for first in range(c * inner, x.size, max(1, step)):
            for i in range(first, first + inner):
                if not x[i] > zero:
                    total += dy[i] * x[i]
        slope_gradients[c] = total
