"""Clip: y = min(max(x, min), max), both limits required; may work in place.

    dx = dy  where min <= x <= max,   0  elsewhere
"""

from __future__ import annotations

import numba

from caffetools.engine.cpu.jit import parallel_kernel
from caffetools.glog import check, check_le
from caffetools.parts.elementwise import ElementwiseLayer


class ClipLayer(ElementwiseLayer):
    needs_input = True

    def setup(self, bottom, top):
        given = self.param.HasField("clip_param")
        check(given, "has_clip_param()", f"clip_param needs min and max. (layer '{self.name}')")
        param = self.param.clip_param
        words = f"clip_param asks for an empty range. (layer '{self.name}')"
        check_le(param.min, param.max, "min <= max", words)
        self.lower, self.upper = self.dtype.type(param.min), self.dtype.type(param.max)

    def apply(self, x, y):
        clip_forward(x, self.lower, self.upper, y)

    def gradient(self, x, y, dy, dx):
        clip_backward(x, dy, self.lower, self.upper, dx)


@parallel_kernel
def clip_forward(x, lower, upper, y):
    for i in numba.prange(x.size):
        v = x[i]
        # The comparisons are written so that a NaN goes through unchanged.
        y[i] = lower if v < lower else upper if v > upper else v


@parallel_kernel
def clip_backward(x, dy, lower, upper, dx):
    zero = x.dtype.type(0)
    for i in numba.prange(x.size):
        dx[i] = dy[i] if lower <= x[i] <= upper else zero
