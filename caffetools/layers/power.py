"""Power: y = (shift + scale x)^power; may work in place.

    dx = dy power scale (shift + scale x)^(power - 1)

A constant (power or scale 0) is one for every x, finite or not, and its gradient is zero.
"""

from __future__ import annotations

import numpy as np

from caffetools.parts.elementwise import ElementwiseLayer, without_warnings


class PowerLayer(ElementwiseLayer):
    def setup(self, bottom, top):
        param = self.param.power_param
        self.power, self.scale, self.shift = param.power, param.scale, param.shift
        self.is_constant = self.power == 0 or self.scale == 0
        self.needs_input = not self.is_constant and self.power != 1

    @property
    def backward_reads(self):
        return super().backward_reads if self.needs_input else ()

    @without_warnings
    def apply(self, x, y):
        if self.is_constant:
            y.fill(self.dtype.type(self.shift) ** self.power)
        else:
            self._scale_and_shift(x, y)
            y **= self.power

    def derivative(self, x, y, slope):
        if self.is_constant or self.power == 1:
            slope.fill(self.power * self.scale)
        else:
            self._scale_and_shift(x, slope)
            slope **= self.power - 1
            slope *= self.power * self.scale

    def _scale_and_shift(self, x, out):
        np.multiply(x, self.scale, out=out)
        out += self.shift
