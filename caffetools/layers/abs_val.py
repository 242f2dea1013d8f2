"""AbsVal: y = |x|; not in place.

    dx = dy sign(x), with sign(0) = 0
"""

from __future__ import annotations

import numpy as np

from caffetools.parts.elementwise import ElementwiseLayer, without_warnings


class AbsValLayer(ElementwiseLayer):
    needs_input = True

    def setup(self, bottom, top):
        self.refuse_in_place(bottom, top)

    @without_warnings
    def apply(self, x, y):
        np.abs(x, out=y)

    def derivative(self, x, y, slope):
        np.sign(x, out=slope)
