"""Threshold: y = 1 where x > threshold, 0 elsewhere; may work in place; no gradient."""

from __future__ import annotations

import numpy as np

from caffetools.layer import Layer
from caffetools.parts.elementwise import ElementwiseLayer, without_warnings


class ThresholdLayer(ElementwiseLayer):
    backward = Layer.backward
    backward_reads = ()

    def setup(self, bottom, top):
        self.threshold = self.dtype.type(self.param.threshold_param.threshold)

    @without_warnings
    def apply(self, x, y):
        np.greater(x, self.threshold, out=y)
