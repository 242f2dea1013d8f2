"""Convolution by kernels of our own: which ones suit its shapes.

Products of matrices on gathered tiles over two axes, tap by tap for groups of few channels, by way of unfolded columns
over more axes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from caffetools.engine.gpu import conv_direct, precision
from caffetools.engine.gpu.conv_geometry import Geometry
from caffetools.engine.gpu.conv_tiles import GatheredProduct
from caffetools.engine.gpu.conv_weights import WeightGradient
from caffetools.engine.gpu.device import current
from caffetools.engine.gpu.finish import finish
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

    def forward(self, x, w, bias, y, residual=None, slope: float = 1.0) -> None:
        """Compute y; bias: (outputs,) or None. residual, slope: what else is done to the outputs, see `finish`."""
        x, w = self._operands(x, w)
        self._passes.forward(x, w, bias, y, residual, slope)

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

    def forward(self, x, w, bias, y, residual, slope):
        self._forward.run(w, x, bias, y, residual, slope)

    def backward_data(self, dy, w, bias, dx):
        self._backward.run(w, dy, bias, dx)

    def add_weight_gradient(self, x, dy, dw):
        self._weights.add(x, dy, dw)


class _Unfolded:
    """More axes: by way of columns."""

    def __init__(self, x_shape, w_shape, *rest):
        self._convolution = UnfoldedConvolution(x_shape, w_shape, *rest)
        self._x_plane, self._y_plane = self._convolution.windows.plane, self._convolution.windows.count

    def forward(self, x, w, bias, y, residual, slope):
        self._convolution.forward(x, w, y)
        finish_in_place(y, bias, self._y_plane, residual, slope)

    def backward_data(self, dy, w, bias, dx):
        self._convolution.backward_data(dy, w, dx)
        finish_in_place(dx, bias, self._x_plane)

    def add_weight_gradient(self, x, dy, dw):
        self._convolution.add_weight_gradient(x, dy, dw)


def finish_in_place(y, bias, plane: int, residual=None, slope: float = 1.0) -> None:
    """Add to each plane of y its channel's element of bias, and do the rest of `finish`; nothing for nothing."""
    if bias is not None or residual is not None or slope != 1:
        finish(y, y, plane, None, bias, residual, slope)
