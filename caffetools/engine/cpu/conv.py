"""2-D convolution in NCHW layout: forward, data gradient and filter gradient for every stride, padding,
dilation and group.

    y[n, m, i, j] = bias[m] + sum_{c, a, b} w[m, c, a, b] x[n, c, i s - p + a d, j s - p + b d]

All three are matrix products whose second operand is read from the images, without unrolling them to columns.
There are three ways to fill the lanes of a vector, and the plan takes the one that is expected to take least time:
with output channels (`conv_channels`), with neighbouring pixels (`conv_products`) or, for small planes and full
batches, with images (`conv_lanes`). 3 x 3 filters with stride 1 over enough channels need fewer multiplications by
Winograd's way (`conv_winograd`), and 1 x 1 filters with stride 1 are plain products (`conv_pointwise`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from caffetools.engine.cpu import simd
from caffetools.engine.cpu.conv_channels import ChannelsProduct
from caffetools.engine.cpu.conv_channels_weights import ChannelsFilterGradient
from caffetools.engine.cpu.conv_depthwise import DepthwiseFilterGradient, DepthwiseProduct, is_depthwise
from caffetools.engine.cpu.conv_geometry import Geometry
from caffetools.engine.cpu.conv_lanes import LanesProduct
from caffetools.engine.cpu.conv_packed import PackedProduct
from caffetools.engine.cpu.conv_pointwise import PointwiseProduct, is_pointwise
from caffetools.engine.cpu.conv_pointwise_weights import PointwiseFilterGradient
from caffetools.engine.cpu.conv_products import BackwardProduct, ForwardProduct
from caffetools.engine.cpu.conv_weights import FilterGradient
from caffetools.engine.cpu.conv_winograd import WinogradProduct, is_winograd
from caffetools.engine.cpu.conv_winograd_weights import WinogradFilterGradient
from caffetools.engine.cpu.finish import Finish
from caffetools.engine.cpu.kept import Kept

#: Images are no good as lanes for planes of more pixels, which fill vectors well with neighbours, and for
#: filters of more bytes, which every pixel would fetch from an outer cache.
LARGEST_LANES_PLANE, LARGEST_LANES_FILTERS = 1024, 256 << 10


class ConvPlan:
    """A convolution of given shapes; holds tables, no data.

    x_shape: (n, c, h, w). w_shape: (m, c / group, kh, kw). stride, pad, dilation: an int or a pair (rows,
    columns). dtype: float32 or float64. All arrays are C-contiguous. y_shape: (n, m, out rows, out columns).

    The plan serves the transposed convolution as well: its forward is `backward_data`, its data gradient is
    `forward`, and its filter gradient is `backward_weights` with x and dy exchanged.
    """

    def __init__(
        self, x_shape: Sequence[int], w_shape: Sequence[int], stride=1, pad=0, dilation=1, group: int = 1,
        dtype=np.float32,
    ):  # fmt: skip
        self.geometry = Geometry(x_shape, w_shape, stride, pad, dilation, group, dtype)
        self.y_shape = self.geometry.y_shape

    def forward(
        self,
        x: np.ndarray,
        w: np.ndarray,
        bias: np.ndarray | None,
        y: np.ndarray,
        finish: Finish | None = None,
        kept: Kept | None = None,
        channel: int = 0,
    ) -> None:
        """Compute y from x; bias: (m,) or None. finish: what follows the convolution before y is stored.

        kept: where packed filters stay for the next call, see `PackedProduct.run`. channel: the one of y that gets the
        first output, where y has more channels than this convolution; a residual of `finish` lies as y does.
        """
        self._forward.run(x, w, bias, y, finish, kept, channel)

    def backward_data(self, dy: np.ndarray, w: np.ndarray, dx: np.ndarray, kept: Kept | None = None) -> None:
        """Compute dx from dy; dx is overwritten."""
        self._backward_data.run(dy, w, None, dx, None, kept)

    def backward_weights(self, x: np.ndarray, dy: np.ndarray, dw: np.ndarray, db: np.ndarray | None) -> None:
        """Add the gradients of the filters to dw and, if given, those of the bias to db."""
        if self.geometry.images > 0:  # a filter may have left none, and then there is nothing to add
            self._backward_weights.run(x, dy, dw, db)

    def forward_packings(self) -> list[PackedProduct]:
        """Return the packings of filters that `forward` keeps."""
        return [self._forward] if self._forward.keeps else []

    def backward_packings(self) -> list[PackedProduct]:
        """Return the packings of filters that `backward_data` keeps."""
        return [self._backward_data] if self._backward_data.keeps else []

    @cached_property
    def _forward(self):
        return self._product(ForwardProduct, transposed=False)

    @cached_property
    def _backward_data(self):
        return self._product(BackwardProduct, transposed=True)

    @cached_property
    def _backward_weights(self):
        g = self.geometry
        if is_depthwise(g):
            return DepthwiseFilterGradient(g)
        ways = [FilterGradient(g), ChannelsFilterGradient(g)]
        if is_pointwise(g):
            ways.append(PointwiseFilterGradient(g))
        if is_winograd(g):
            ways.append(WinogradFilterGradient(g))
        return min(ways, key=lambda way: way.cost)

    def _product(self, pixels_as_lanes, transposed):
        """Return the forward product, or the data gradient, in the way that suits the shapes best."""
        g = self.geometry
        if is_depthwise(g):
            return DepthwiseProduct(g, transposed)
        ways = [pixels_as_lanes(g)]
        filters = g.group_outputs * g.group_channels * g.taps * g.dtype.itemsize
        if (
            g.images >= simd.lanes_of(g.dtype)
            and max(g.x_plane, g.y_plane) <= LARGEST_LANES_PLANE
            and filters <= LARGEST_LANES_FILTERS
        ):
            ways.append(LanesProduct(g, transposed))
        if g.images > 0:
            ways.append(ChannelsProduct(g, transposed))
        if is_pointwise(g):
            ways.append(PointwiseProduct(g, transposed))
        if is_winograd(g):
            ways.append(WinogradProduct(g, transposed))
        return min(ways, key=lambda way: way.cost)
