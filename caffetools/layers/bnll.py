"""BNLL, the binomial normal log likelihood (softplus): y = log(1 + e^x); may work in place.

    dx = dy / (1 + e^-x)
"""

from __future__ import annotations

import numpy as np

from caffetools.engine.cpu.exponential import softplus
from caffetools.engine.cpu.jit import kernel
from caffetools.parts.elementwise import ElementwiseLayer


class BNLLLayer(ElementwiseLayer):
    needs_input = True

    def apply(self, x, y):
        bnll_forward(x, y)

    def derivative(self, x, y, slope):
        np.exp(np.negative(x, out=slope), out=slope)
        slope += 1
        np.reciprocal(slope, out=slope)


@kernel
def bnll_forward(x, y):
    for i in range(x.size):
        y[i] = softplus(x[i])
