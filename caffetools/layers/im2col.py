"""Im2col: every window of the spatial axes as a column: (N, C, sizes...) -> (N, C * prod(kernel),
windows...).

Row (c, a) of the top holds x[n, c, i stride - pad + a dilation], zero outside x, for all windows i; dx
gathers dy from all the windows that an element lies in. Parameters are those of a Convolution.
"""

from __future__ import annotations

from math import prod

import numpy as np

from caffetools.engine.cpu.conv_nd import taps
from caffetools.layer import Layer
from caffetools.parts.spatial import read_window


class Im2colLayer(Layer):
    reads = ("convolution_param",)
    refuses = {
        "convolution_param": dict.fromkeys(
            ("num_output", "bias_term", "group", "weight_filler", "bias_filler"),
            "Remove it, or make the layer a Convolution",
        )
    }
    exact_bottoms = 1
    exact_tops = 1
    backward_reads = ()

    def setup(self, bottom, top):
        self.refuse_in_place(bottom, top)
        self.axis = bottom[0].canonical_axis(self.param.convolution_param.axis)
        self.window = read_window(self, len(bottom[0].shape) - self.axis - 1)

    def reshape(self, bottom, top):
        shape, axis = bottom[0].shape, self.axis
        sizes, channels = shape[axis + 1 :], shape[axis]
        windows = self.window.windows_in(self, sizes)
        top[0].reshape((*shape[:axis], channels * prod(self.window.kernel), *windows))
        items = prod(shape[:axis])
        self.x_shape = (items, channels, *sizes)
        self.y_shape = (items, channels, prod(self.window.kernel), *windows)
        w = self.window
        self.taps = taps(sizes, windows, w.kernel, w.stride, w.pad, w.dilation)

    def forward(self, bottom, top):
        x, y = bottom[0].flat_data.reshape(self.x_shape), top[0].flat_data.reshape(self.y_shape)
        for row, (inside, elements) in enumerate(self.taps):
            y[:, :, row] = 0
            y[:, :, row][(..., *inside)] = x[(..., *elements)]

    def backward(self, top, propagate_down, bottom):
        if not propagate_down[0]:
            return
        dy, dx = top[0].flat_diff.reshape(self.y_shape), bottom[0].flat_diff.reshape(self.x_shape)
        dx.fill(0)
        for row, (inside, elements) in enumerate(self.taps):
            target = dx[(..., *elements)]
            np.add(target, dy[:, :, row][(..., *inside)], out=target)
