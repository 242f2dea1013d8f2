"""Convolution of groups with few channels, such as depthwise: a thread computes an element, tap by tap.

A product of matrices would leave most of a tile empty there. The numbers of a geometry are

    items, channels, height, width, outputs, kernel (2), stride (2), pad (2), dilation (2), group, down, across
"""

from __future__ import annotations

import numpy as np
from numba import cuda

from caffetools.engine.gpu.conv_geometry import Geometry
from caffetools.engine.gpu.device import current
from caffetools.engine.gpu.finish import optional
from caffetools.engine.gpu.index import quotient
from caffetools.engine.gpu.launch import THREADS, cuda_kernel, launch, launch_blocks
from caffetools.engine.gpu.memory import to_device
from caffetools.engine.gpu.reduce import block_sum

#: Channels and outputs of a group from which on tiles are worth while.
MANY = 8


def fits(g: Geometry) -> bool:
    """Say whether these kernels are the better ones."""
    return g.group > 1 and max(g.group_channels, g.group_outputs) < MANY


class DirectConvolution:
    """The three passes for given shapes."""

    def __init__(self, g: Geometry):
        sizes = [g.items, g.channels, g.height, g.width, g.outputs, *g.kernel, *g.stride, *g.pad, *g.dilation]
        self.weights = g.weights
        self._geometry = to_device(current(), np.array([*sizes, g.group, g.down, g.across], np.int64))

    def forward(self, x, w, bias, y, residual=None, slope: float = 1.0) -> None:
        """Compute y; bias: (outputs,) or None. The rest: see `finish`."""
        steps = *optional(bias, w), *optional(residual, w), y.dtype.type(slope)
        launch(direct_forward, y.size, w, x, *steps, self._geometry, y)

    def backward_data(self, dy, w, bias, dx) -> None:
        """Compute dx; bias: (channels,) to be added, or None."""
        launch(direct_backward, dx.size, w, dy, *optional(bias, w), self._geometry, dx)

    def add_weight_gradient(self, x, dy, dw) -> None:
        """Add the weight gradient to dw."""
        if dy.size:
            launch_blocks(direct_weights, self.weights, THREADS, x, dy, self._geometry, dw)


@cuda_kernel
def direct_forward(w, x, bias, has_bias, residual, has_residual, slope, geometry, y):
    zero = x.dtype.type(0)
    items, channels, height, width, outputs = geometry[0], geometry[1], geometry[2], geometry[3], geometry[4]
    kernel_h, kernel_w, stride_h, stride_w = geometry[5], geometry[6], geometry[7], geometry[8]
    pad_h, pad_w, dilation_h, dilation_w = geometry[9], geometry[10], geometry[11], geometry[12]
    group, down, across = geometry[13], geometry[14], geometry[15]
    group_channels, group_outputs = channels // group, outputs // group
    for place in range(cuda.grid(1), items * outputs * down * across, cuda.gridsize(1)):
        line = quotient(place, across)
        left = (place - line * across) * stride_w - pad_w
        plane = quotient(line, down)
        top = (line - plane * down) * stride_h - pad_h
        item = quotient(plane, outputs)
        output = plane - item * outputs
        first = item * channels + quotient(output, group_outputs) * group_channels
        total = zero
        k = output * group_channels * kernel_h * kernel_w
        for channel in range(first, first + group_channels):
            for r in range(kernel_h):
                u = top + r * dilation_h
                for s in range(kernel_w):
                    v = left + s * dilation_w
                    if u >= 0 and u < height and v >= 0 and v < width:
                        total += w[k] * x[(channel * height + u) * width + v]
                    k += 1
        if has_bias:
            total += bias[output]
        if has_residual:
            total += residual[place]
        # A NaN goes through.
        y[place] = slope * total if total < zero else total


@cuda_kernel
def direct_backward(w, dy, bias, has_bias, geometry, dx):
    items, channels, height, width, outputs = geometry[0], geometry[1], geometry[2], geometry[3], geometry[4]
    kernel_h, kernel_w, stride_h, stride_w = geometry[5], geometry[6], geometry[7], geometry[8]
    pad_h, pad_w, dilation_h, dilation_w = geometry[9], geometry[10], geometry[11], geometry[12]
    group, down, across = geometry[13], geometry[14], geometry[15]
    group_channels, group_outputs = channels // group, outputs // group
    for place in range(cuda.grid(1), items * channels * height * width, cuda.gridsize(1)):
        line = quotient(place, width)
        left = place - line * width + pad_w
        plane = quotient(line, height)
        top = line - plane * height + pad_h
        item = quotient(plane, channels)
        channel = plane - item * channels
        own_group = quotient(channel, group_channels)
        total = dy.dtype.type(0)
        for output in range(own_group * group_outputs, (own_group + 1) * group_outputs):
            k = (output * group_channels + channel - own_group * group_channels) * kernel_h * kernel_w
            for r in range(kernel_h):
                u = top - r * dilation_h
                i = quotient(u, stride_h) if u >= 0 else 0
                if u >= 0 and i < down and i * stride_h == u:
                    for s in range(kernel_w):
                        v = left - s * dilation_w
                        j = quotient(v, stride_w) if v >= 0 else 0
                        if v >= 0 and j < across and j * stride_w == v:
                            at = ((item * outputs + output) * down + i) * across + j
                            total += w[k + r * kernel_w + s] * dy[at]
        if has_bias:
            total += bias[channel]
        dx[place] = total


@cuda_kernel
def direct_weights(x, dy, geometry, dw):
    """A block for each weight."""
    shared = cuda.shared.array(THREADS, x.dtype)
    items, channels, height, width, outputs = geometry[0], geometry[1], geometry[2], geometry[3], geometry[4]
    kernel_h, kernel_w, stride_h, stride_w = geometry[5], geometry[6], geometry[7], geometry[8]
    pad_h, pad_w, dilation_h, dilation_w = geometry[9], geometry[10], geometry[11], geometry[12]
    group, down, across = geometry[13], geometry[14], geometry[15]
    group_channels, group_outputs = channels // group, outputs // group
    for weight in range(cuda.blockIdx.x, dw.size, cuda.gridDim.x):
        rest = weight // kernel_w
        left = weight % kernel_w * dilation_w - pad_w
        top = rest % kernel_h * dilation_h - pad_h
        rest = rest // kernel_h
        output = rest // group_channels
        channel = output // group_outputs * group_channels + rest % group_channels
        own = x.dtype.type(0)
        for place in range(cuda.threadIdx.x, items * down * across, cuda.blockDim.x):
            line = quotient(place, across)
            j = place - line * across
            item = quotient(line, down)
            i = line - item * down
            u, v = i * stride_h + top, j * stride_w + left
            if u >= 0 and u < height and v >= 0 and v < width:
                factor = dy[((item * outputs + output) * down + i) * across + j]
                own += factor * x[((item * channels + channel) * height + u) * width + v]
        total = block_sum(own, shared)
        if cuda.threadIdx.x == 0:
            dw[weight] += total
