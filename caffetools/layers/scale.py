"""Scale: y = x s + b, where s and b span `num_axes` axes of x from `axis` on and repeat over the others.

    dx = dy s,   ds = sum of dy x over the other axes,   db = sum of dy

s is a parameter (ones unless `filler` says otherwise), or bottom 1 with any number of axes. b has the shape
of s and is always a parameter, there if `bias_term` is set. May work in place: x is then copied for the
backward pass.
"""

from __future__ import annotations

import numba
import numpy as np

from caffetools import glog
from caffetools.blob import Blob
from caffetools.engine.cpu.jit import kernel, parallel_kernel
from caffetools.engine.cpu.sums import total_and_dot
from caffetools.glog import check
from caffetools.layer import Layer
from caffetools.parts.broadcast import parameter_shape, spans
from caffetools.proto import caffe_pb2


class ScaleLayer(Layer):
    min_bottoms = 1
    max_bottoms = 2
    exact_tops = 1

    def setup(self, bottom, top):
        param = self.param.scale_param
        if len(bottom) == 1:
            ones = caffe_pb2.FillerParameter(type="constant", value=1)
            shape = parameter_shape(self, bottom[0], param.axis, param.num_axes, "scale")
            self.add_param(shape, param.filler if param.HasField("filler") else ones)
        else:
            shape = bottom[1].shape
        words = f"bias_filler without bias_term: true would have no effect (layer '{self.name}')"
        told = param.HasField("bias_term") or not param.HasField("bias_filler")
        check(told, "has_bias_term() || !has_bias_filler()", words)
        self.input_blob = Blob((0,), self.dtype)
        self.has_bias = param.bias_term
        if self.has_bias:
            # The original makes a Bias layer of the same name here, which its log shows.
            glog.info(f"Creating layer {self.name}")
            self.add_param(shape, param.bias_filler)

    def reshape(self, bottom, top):
        scale = self._scale(bottom)
        self.spans = spans(self, bottom[0], scale, self.param.scale_param.axis, "scale")
        top[0].reshape_like(bottom[0])
        self.in_place = top[0] is bottom[0]
        self.input_blob.reshape((bottom[0].count if self.in_place else 0,))
        self.no_bias = np.zeros(scale.count, self.dtype)
        self.scale_sums, self.bias_sums = np.empty((2, scale.count), self.dtype)

    def _scale(self, bottom):
        return bottom[1] if len(bottom) > 1 else self.blobs[0]

    @property
    def backward_reads(self):
        return ("bottom[1]",) if self.in_place else ("bottom",)

    @property
    def input(self) -> np.ndarray:
        """The values that were overwritten in place and are needed again, flat."""
        return self.input_blob.flat_data

    def kept(self):
        return [self.input_blob] if self.in_place else []

    def forward(self, bottom, top):
        bias = self.blobs[-1].flat_data if self.has_bias else self.no_bias
        scale_forward(
            bottom[0].flat_data,
            self._scale(bottom).flat_data,
            bias,
            self.spans.inner,
            self.in_place,
            self.input,
            self.dtype.type(1),
            top[0].flat_data,
        )

    def backward(self, top, propagate_down, bottom):
        scale_backward(
            self.input if self.in_place else bottom[0].flat_data,
            top[0].flat_diff,
            self._scale(bottom).flat_data,
            self.spans.inner,
            propagate_down[0],
            bottom[0].flat_diff if propagate_down[0] else self.input,
            self.scale_sums,
            self.bias_sums,
        )
        if len(bottom) > 1 and propagate_down[1]:
            np.copyto(bottom[1].flat_diff, self.scale_sums)
        self.add_gradients(self.scale_sums, self.bias_sums)

    def add_gradients(self, ds: np.ndarray, db: np.ndarray) -> None:
        """Add to the gradients of the parameters where they are wanted."""
        learns_scale = len(self.blobs) > self.has_bias
        if learns_scale and self.param_propagate_down[0]:
            total = self.blobs[0].flat_diff
            total += ds
        if self.has_bias and self.param_propagate_down[-1]:
            total = self.blobs[-1].flat_diff
            total += db


@parallel_kernel
def scale_forward(x, s, b, inner, keep, kept, slope, y):
    """Write f(x s + b) to y, and x to `kept` if `keep`; slope: of f, a ReLU that follows, 1 for none."""
    in_place = x.ctypes.data == y.ctypes.data
    for row in numba.prange(x.size // inner):
        factor, shift = s[row % s.size], b[row % s.size]
        first, last = row * inner, (row + 1) * inner
        if keep:
            # Read from the copy: a loop over two arrays that turn out to be one uses no vectors.
            kept[first:last] = x[first:last]
            _scale(kept[first:last], factor, shift, slope, y[first:last])
        elif in_place:
            _scale_in_place(factor, shift, slope, y[first:last])
        else:
            _scale(x[first:last], factor, shift, slope, y[first:last])


@kernel
def _scale_in_place(factor, shift, slope, y):
    zero = y.dtype.type(0)
    for i in range(y.size):
        v = y[i] * factor + shift
        y[i] = slope * v if v < zero else v


@kernel
def _scale(x, factor, shift, slope, y):
    zero = x.dtype.type(0)
    for i in range(x.size):
        v = x[i] * factor + shift
        y[i] = slope * v if v < zero else v


@parallel_kernel
def scale_backward(x, dy, s, inner, wanted, dx, ds, db):
    """Write the sums over all but the middle axis to ds and db, and dy s to dx if it is wanted."""
    in_place = dx.ctypes.data == dy.ctypes.data
    no_shift, no_slope = x.dtype.type(0), x.dtype.type(1)
    for d in numba.prange(s.size):
        factor = s[d]
        scale_total = x.dtype.type(0)
        bias_total = x.dtype.type(0)
        for start in range(d * inner, x.size, s.size * inner):
            source, grads = x[start : start + inner], dy[start : start + inner]
            bias_part, scale_part = total_and_dot(grads, source, no_shift)
            scale_total += scale_part
            bias_total += bias_part
            if wanted and in_place:
                _scale_in_place(factor, no_shift, no_slope, dx[start : start + inner])
            elif wanted:
                _scale(grads, factor, no_shift, no_slope, dx[start : start + inner])
        ds[d] = scale_total
        db[d] = bias_total
