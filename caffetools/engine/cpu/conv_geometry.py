"""The sizes of a 2-D convolution and which pixels its taps connect."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from caffetools.glog import check


class Geometry:
    """Shapes of a convolution, checked. Names as in `ConvPlan`; pairs are (rows, columns)."""

    def __init__(
        self, x_shape: Sequence[int], w_shape: Sequence[int], stride, pad, dilation, group: int, dtype
    ):
        self.x_shape, self.w_shape = tuple(x_shape), tuple(w_shape)
        self.stride, self.pad, self.dilation = _pair(stride), _pair(pad), _pair(dilation)
        self.group, self.dtype = group, np.dtype(dtype)
        self.images, channels = self.x_shape[:2]
        outputs, self.group_channels = self.w_shape[:2]
        shapes = f"image {self.x_shape}, filters {self.w_shape}, group {group}, pad {self.pad}"
        check(channels == group * self.group_channels, "channels == group * filter channels", shapes)
        check(outputs % group == 0, "num_output % group == 0", shapes)
        self.group_outputs = outputs // group
        self.taps = self.w_shape[2] * self.w_shape[3]
        sizes = [
            (self.x_shape[2 + i] + 2 * self.pad[i] - self.dilation[i] * (self.w_shape[2 + i] - 1) - 1)
            // self.stride[i]
            + 1
            for i in range(2)
        ]
        check(min(sizes) > 0, "output height and width > 0", shapes)
        self.y_shape = (self.images, outputs, *sizes)
        self.x_plane, self.y_plane = self.x_shape[2] * self.x_shape[3], sizes[0] * sizes[1]

    def links(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return (output pixel, tap, input pixel) for every tap that does not see padding."""
        sources = []
        for i in range(2):
            first = np.arange(self.y_shape[2 + i]) * self.stride[i] - self.pad[i]
            sources.append(first[:, None] + np.arange(self.w_shape[2 + i]) * self.dilation[i])
        rows, columns = sources[0][:, None, :, None], sources[1][None, :, None, :]
        inside = (rows >= 0) & (rows < self.x_shape[2]) & (columns >= 0) & (columns < self.x_shape[3])
        outputs, taps = np.divmod(np.flatnonzero(inside), self.taps)
        return outputs, taps, (rows * self.x_shape[3] + columns)[inside]


def _pair(value) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))
