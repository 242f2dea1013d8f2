"""Convolution over three and more spatial axes, by way of the two-dimensional one.

The axes before the last two are unfolded: their windows become items of the batch and the taps of their
kernels become channels. The filters need no change for that: (M, C / group, taps..., kh, kw) lies in memory
as (M, C / group * taps, kh, kw) does.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod

import numpy as np

from caffetools.engine.cpu.conv import ConvPlan
from caffetools.engine.cpu.conv_packed import PackedProduct
from caffetools.engine.cpu.kept import Kept
from caffetools.engine.cpu.workspace import scratch


class NdConvPlan:
    """A convolution of given shapes, with the methods of `ConvPlan`.

    x_shape: (n, c, sizes...), w_shape: (m, c / group, kernel...). stride, pad, dilation: a number for each
    spatial axis.
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
        items, channels, *sizes = x_shape
        outputs, group_channels, *kernel = w_shape
        counts = [
            (size + 2 * p - d * (k - 1) - 1) // s + 1
            for size, k, s, p, d in zip(sizes, kernel, stride, pad, dilation, strict=True)
        ]
        self.taps = taps(sizes[:-2], counts[:-2], kernel[:-2], stride[:-2], pad[:-2], dilation[:-2])
        # Windows of the unfolded axes, channels, taps of the unfolded axes, planes.
        self.unfolded_shape = (items, *counts[:-2], channels, len(self.taps), *sizes[-2:])
        self.flat_shape = (items * prod(counts[:-2]), channels * len(self.taps), *sizes[-2:])
        self.y_planes = (items, *counts[:-2], outputs, *counts[-2:])
        self.y_flat = (items * prod(counts[:-2]), outputs, *counts[-2:])
        self.w_flat = (outputs, group_channels * len(self.taps), *kernel[-2:])
        self.dtype = np.dtype(dtype)
        self.plan = ConvPlan(
            self.flat_shape,
            self.w_flat,
            tuple(stride[-2:]),
            tuple(pad[-2:]),
            tuple(dilation[-2:]),
            group,
            dtype,
        )

    def forward(
        self, x: np.ndarray, w: np.ndarray, bias: np.ndarray | None, y: np.ndarray, kept: Kept | None = None
    ) -> None:
        """Compute y from x; bias: (m,) or None."""
        out = self._scratch("conv outputs", self.y_flat)
        self.plan.forward(self._unfold(x), w.reshape(self.w_flat), bias, out, kept=kept)
        np.copyto(np.moveaxis(y, 1, -3), out.reshape(self.y_planes))

    def backward_data(self, dy: np.ndarray, w: np.ndarray, dx: np.ndarray, kept: Kept | None = None) -> None:
        """Compute dx from dy; dx is overwritten."""
        unfolded = self._scratch("conv unfolded", self.flat_shape)
        self.plan.backward_data(self._planes_of(dy), w.reshape(self.w_flat), unfolded, kept)
        unfolded = unfolded.reshape(self.unfolded_shape)
        dx.fill(0)
        moved = np.moveaxis(dx, 1, -3)
        for tap, (windows, elements) in enumerate(self.taps):
            target = moved[(slice(None), *elements)]
            np.add(target, unfolded[(slice(None), *windows, slice(None), tap)], out=target)

    def backward_weights(self, x: np.ndarray, dy: np.ndarray, dw: np.ndarray, db: np.ndarray | None) -> None:
        """Add the gradients of the filters to dw and, if given, those of the bias to db."""
        self.plan.backward_weights(self._unfold(x), self._planes_of(dy), dw.reshape(self.w_flat), db)

    def forward_packings(self) -> list[PackedProduct]:
        """Return the packings of filters that `forward` keeps."""
        return self.plan.forward_packings()

    def backward_packings(self) -> list[PackedProduct]:
        """Return the packings of filters that `backward_data` keeps."""
        return self.plan.backward_packings()

    def _unfold(self, x):
        unfolded = self._scratch("conv unfolded", self.flat_shape)
        view = unfolded.reshape(self.unfolded_shape)
        view.fill(0)
        moved = np.moveaxis(x, 1, -3)
        for tap, (windows, elements) in enumerate(self.taps):
            view[(slice(None), *windows, slice(None), tap)] = moved[(slice(None), *elements)]
        return unfolded

    def _planes_of(self, dy):
        planes = self._scratch("conv outputs", self.y_flat)
        np.copyto(planes.reshape(self.y_planes), np.moveaxis(dy, 1, -3))
        return planes

    def _scratch(self, name, shape):
        return scratch(name, prod(shape), self.dtype)[: prod(shape)].reshape(shape)


def taps(
    sizes: Sequence[int],
    counts: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    pad: Sequence[int],
    dilation: Sequence[int],
) -> list[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Return, for each element of the kernel, the windows that have it inside x, and the elements of x there.

    All arguments have a number for each axis; counts: how many windows an axis has.
    """
    result = []
    for place in product(*(range(k) for k in kernel)):
        windows, elements = [], []
        for a, size, count, s, p, d in zip(place, sizes, counts, stride, pad, dilation, strict=True):
            shift = a * d - p
            first = min(count, max(0, -(shift // s)))
            last = max(first, min(count, (size - 1 - shift) // s + 1))
            windows.append(slice(first, last))
            start = first * s + shift
            elements.append(slice(start, start + (last - first - 1) * s + 1 if last > first else start, s))
        result.append((tuple(windows), tuple(elements)))
    return result
