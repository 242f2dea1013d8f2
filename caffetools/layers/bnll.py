"""BNLL, the binomial normal log likelihood (softplus): y = log(1 + e^x); may work in place.

    dx = dy / (1 + e^-x)
"""

from __future__ import annotations

import numpy as np

from caffetools.elementwise import ElementwiseLayer


class BNLLLayer(ElementwiseLayer):
    needs_input = True

    def apply(self, x, y):
        # log(e^0 + e^x), which neither overflows nor loses the small values.
        np.logaddexp(x, self.dtype.type(0), out=y)

    def derivative(self, x, y, slope):
        np.exp(np.negative(x, out=slope), out=slope)
        slope += 1
        np.reciprocal(slope, out=slope)
