"""Exp: y = base^(shift + scale x), where base -1, the default, stands for e; may work in place.

    dx = dy y scale ln(base)
"""

from __future__ import annotations

import math

import numpy as np

from caffetools.glog import check_gt
from caffetools.parts.elementwise import ElementwiseLayer, without_warnings


class ExpLayer(ElementwiseLayer):
    def setup(self, bottom, top):
        param = self.param.exp_param
        log_base = 1.0
        if param.base != -1:
            check_gt(param.base, 0.0, "base > 0", f"base must be strictly positive. (layer '{self.name}')")
            log_base = math.log(param.base)
        self.scale, self.shift = log_base * param.scale, log_base * param.shift

    @without_warnings
    def apply(self, x, y):
        np.multiply(x, self.scale, out=y)
        y += self.shift
        np.exp(y, out=y)

    def derivative(self, x, y, slope):
        np.multiply(y, self.scale, out=slope)
