"""Convolution by kernels of our own: which ones suit its shapes.

Products of matrices on gathered tiles over two axes, tap by tap for groups of few channels, by way of unfolded columns
over more axes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import cuda

from caffetools.engine.gpu import conv_direct, precision
from caffetools.engine.gpu.conv_geometry import Geometry
from caffetools.engine.gpu.conv_tiles import GatheredProduct
from caffetools.engine.gpu.conv_weights import WeightGradient
from caffetools.engine.gpu.device import current
from caffetools.engine.gpu.index import middle
from caffetools.engine.gpu.launch import cuda_kernel, launch
from caffetools.engine.gpu.unfold import UnfoldedConvolution


class OwnConvPlan:
    """A convolution of given shapes; its methods take flat device arrays.

    x_shape: (items, channels, sizes...) and w_shape: (outputs, channels / group, kernel...), with two spatial axes or
    more. stride, pad, dilation: a number for each of them.
    """

    def __init__(
        self,
        x_shape: Sequence[int],
        w_shape: Sequence[int],
        stride: Sequence[int],
        pad: Sequence[int],
        dilation: Sequence[int],
        group: int = 1,
        dtype=np.float32,
    ):
        # More axes are multiplied by `gemm`, which rounds.
        self._rounds = len(x_shape) == 4
        shapes = x_shape, w_shape, stride, pad, dilation, group
        if not self._rounds:
            self._passes = _Unfolded(*shapes, dtype)
            return
        geometry = Geometry.of(*shapes)
        direct = conv_direct.fits(geometry)
        self._passes = conv_direct.DirectConvolution(geometry) if direct else _Tiles(geometry, dtype)

    def forward(self, x, w, bias, y) -> None:
        """Compute y; bias: (outputs,) or None."""
        x, w = self._operands(x, w)
        self._passes.forward(x, w, bias, y)

    def backward_data(self, dy, w, dx, bias=None) -> None:
        """Compute dx, which is overwritten; bias: (channels,), which a transposed convolution adds, or None."""
        dy, w = self._operands(dy, w)
        self._passes.backward_data(dy, w, bias, dx)

    def backward_weights(self, x, dy, dw) -> None:
        """Add the weight gradient to dw."""
        x, dy = self._operands(x, dy)
        self._passes.add_weight_gradient(x, dy, dw)

    def _operands(self, left, right):
        """Return what is multiplied: in half precision rounded copies, unless the passes round themselves."""
        engine = current()
        if self._rounds and precision.is_half(engine, left.dtype):
            return precision.rounded(engine, (left, 0, left.size), (right, 0, right.size))
        return left, right


class _Tiles:
    """Two axes: products on gathered tiles."""

    def __init__(self, geometry, dtype):
        self._forward = GatheredProduct.forward(geometry)
        self._backward = GatheredProduct.backward(geometry)
        self._weights = WeightGradient(geometry, dtype)

    def forward(self, x, w, bias, y):
        self._forward.run(w, x, bias, y)

    def backward_data(self, dy, w, bias, dx):
        self._backward.run(w, dy, bias, dx)

    def add_weight_gradient(self, x, dy, dw):
        self._weights.add(x, dy, dw)


class _Unfolded:
    """More axes: by way of columns."""

    def __init__(self, x_shape, w_shape, *rest):
        self._convolution = UnfoldedConvolution(x_shape, w_shape, *rest)
        self._x_plane, self._y_plane = self._convolution.windows.plane, self._convolution.windows.count

    def forward(self, x, w, bias, y):
        self._convolution.forward(x, w, y)
        add_bias(y, bias, self._y_plane)

    def backward_data(self, dy, w, bias, dx):
        self._convolution.backward_data(dy, w, dx)
        add_bias(dx, bias, self._x_plane)

    def add_weight_gradient(self, x, dy, dw):
        self._convolution.add_weight_gradient(x, dy, dw)


def add_bias(y, bias, plane: int) -> None:
    """Add to each plane of y its channel's element of bias; nothing where that is None."""
    if bias is not None:
        launch(add_to_planes, y.size, bias, plane, y)


@cuda_kernel
def add_to_planes(values, plane, y):
    """y_(n c i) += values_c"""
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        y[i] += values[middle(i, values.size, plane)]
