"""Log: y = log_base(shift + scale x), where base -1, the default, stands for e; may work in place.

    dx = dy scale / ((shift + scale x) ln(base))
"""

from __future__ import annotations

import math

import numpy as np

from caffetools.glog import check, check_gt
from caffetools.parts.elementwise import ElementwiseLayer, without_warnings


class LogLayer(ElementwiseLayer):
    needs_input = True

    def setup(self, bottom, top):
        param = self.param.log_param
        self.scale, self.shift, self.base_scale = param.scale, param.shift, 1.0
        if param.base != -1:
            check_gt(param.base, 0.0, "base > 0", f"base must be strictly positive. (layer '{self.name}')")
            words = f"Inf result: 1/log(base) == 1/log({param.base:g}) == inf (layer '{self.name}')"
            check(param.base != 1, "!isinf(base_scale_)", words)
            self.base_scale = 1 / math.log(param.base)

    @without_warnings
    def apply(self, x, y):
        self._argument(x, y)
        np.log(y, out=y)
        y *= self.base_scale

    def derivative(self, x, y, slope):
        self._argument(x, slope)
        np.reciprocal(slope, out=slope)
        slope *= self.scale * self.base_scale

    def _argument(self, x, out):
        np.multiply(x, self.scale, out=out)
        out += self.shift
