"""Interp, of DeepLab and PSPNet: planes resized with bilinear interpolation, corners upon corners.

    y[h, w] = the value of x at (h (H - 1) / (H' - 1), w (W - 1) / (W' - 1))

where H and W are the bottom's sizes less what pad_beg and pad_end (0 or negative) cut off, H' and W' the top's: they
are (size - 1) / shrink_factor + 1, then size + (size - 1) (zoom_factor - 1), or `height` and `width`.
"""

from __future__ import annotations

import numba
import numpy as np

from caffetools.engine.cpu.jit import kernel, parallel_kernel
from caffetools.glog import check, check_ge, check_gt, check_le
from caffetools.layer import Layer
from caffetools.parts.spatial import check_planes


class InterpLayer(Layer):
    exact_bottoms = 1
    exact_tops = 1
    backward_reads = ()

    def setup(self, bottom, top):
        self.refuse_in_place(bottom, top)
        param, where = self.param.interp_param, f"(layer '{self.name}')"
        check_le(param.pad_beg, 0, "pad_beg_ <= 0", f"Only supports non-pos padding (cropping) for now {where}")
        check_le(param.pad_end, 0, "pad_end_ <= 0", f"Only supports non-pos padding (cropping) for now {where}")
        check_ge(param.zoom_factor, 1, "zoom_factor >= 1", f"Zoom factor must be positive {where}")
        check_ge(param.shrink_factor, 1, "shrink_factor >= 1", f"Shrink factor must be positive {where}")
        self.sized = param.HasField("height") or param.HasField("width")
        both = param.HasField("height") == param.HasField("width")
        check(both, "has_height() == has_width()", f"height and width go together {where}")
        scaled = param.HasField("zoom_factor") or param.HasField("shrink_factor")
        words = f"height and width, or zoom_factor and shrink_factor; not both {where}"
        check(not (self.sized and scaled), "has_height() != has_zoom_factor()", words)

    def reshape(self, bottom, top):
        check_planes(self, bottom[0])
        param = self.param.interp_param
        n, c, *sizes = bottom[0].shape
        self.first = -param.pad_beg
        kept = [size + param.pad_beg + param.pad_end for size in sizes]
        if self.sized:
            targets = [param.height, param.width]
        else:
            small = [(size - 1) // param.shrink_factor + 1 for size in kept]
            targets = [size + (size - 1) * (param.zoom_factor - 1) for size in small]
        for size in (*kept, *targets):
            check_gt(size, 0, "height_out_ > 0 && width_out_ > 0", f"Size should be positive (layer '{self.name}')")
        top[0].reshape((n, c, *targets))
        self.planes, self.top_planes = (n * c, *sizes), (n * c, *targets)
        self.rows, self.columns = (
            positions(size, target, self.first, self.dtype) for size, target in zip(kept, targets, strict=True)
        )

    def forward(self, bottom, top):
        x, y = bottom[0].flat_data.reshape(self.planes), top[0].flat_data.reshape(self.top_planes)
        interp_forward(x, *self.rows, *self.columns, y)

    def backward(self, top, propagate_down, bottom):
        if propagate_down[0]:
            dx, dy = bottom[0].flat_diff.reshape(self.planes), top[0].flat_diff.reshape(self.top_planes)
            interp_backward(dy, *self.rows, *self.columns, dx)


def positions(size: int, target: int, first: int, dtype) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return, for each of `target` places, the two elements from `first` on that it lies between, and its share of
    the second."""
    places = np.arange(target) * ((size - 1) / (target - 1) if target > 1 else 0)
    lower = np.minimum(places.astype(np.int64), size - 1)
    upper = np.minimum(lower + 1, size - 1)
    return lower + first, upper + first, (places - lower).astype(dtype)


@parallel_kernel
def interp_forward(x, top, below, down, left, right, across, y):
    one = x.dtype.type(1)
    for plane in numba.prange(x.shape[0]):
        for row in range(y.shape[1]):
            upper, lower, v = x[plane, top[row]], x[plane, below[row]], down[row]
            for column in range(y.shape[2]):
                u, a, b = across[column], left[column], right[column]
                above = (one - u) * upper[a] + u * upper[b]
                beneath = (one - u) * lower[a] + u * lower[b]
                y[plane, row, column] = (one - v) * above + v * beneath


@parallel_kernel
def interp_backward(dy, top, below, down, left, right, across, dx):
    one = dy.dtype.type(1)
    for plane in numba.prange(dx.shape[0]):
        dx[plane] = 0
        for row in range(dy.shape[1]):
            v, grads = down[row], dy[plane, row]
            _spread(grads, one - v, left, right, across, dx[plane, top[row]])
            _spread(grads, v, left, right, across, dx[plane, below[row]])


@kernel
def _spread(grads, share, left, right, across, line):
    one = grads.dtype.type(1)
    for column in range(grads.size):
        g, u = share * grads[column], across[column]
        line[left[column]] += (one - u) * g
        line[right[column]] += u * g
