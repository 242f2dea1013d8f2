"""BatchNorm by collected statistics, Scale, Eltwise and ReLU: y = f(scale x + shift + residual) for each channel.

After a convolution this happens while its outputs are in the cache, else in one pass. Scale and shift are made of the
layers' parameters at every pass, which takes microseconds, so parameters may change at any time.
"""

from __future__ import annotations

import numpy as np

from caffetools.engine.cpu.finish import Finish
from caffetools.layers.scale import scale_forward
from caffetools.net.fused.members import FusedStep


class AffineStep(FusedStep):
    def __init__(self, first, last, members):
        super().__init__(first, last, members)
        self.nothing = np.empty(0, self.dtype)
        if self.convolution is not None:
            outputs = self.convolution.layer.outputs
            self.identity = np.ones(outputs, self.dtype), np.zeros(outputs, self.dtype)

    def forward(self):
        x, y = self.bottom.flat_data, self.top.flat_data
        scale, shift = self._scale_and_shift()
        if self.convolution is not None:
            finish = Finish(scale, shift, self.residual, self.slope)
            self.convolution.layer.forward_finished(x, y, finish)
        else:
            inner = self.bottom.count_from(2)
            scale_forward(x, scale, shift, inner, False, self.nothing, self.dtype.type(self.slope), y)

    def _scale_and_shift(self):
        """Return (scale, shift) of all layers together."""
        if self.batch_norm is None:
            return self.identity if self.scale is None else self.scale_and_shift()
        scale, shift = self.batch_norm.layer.collected_affine()
        if self.scale is None:
            return scale, shift
        gamma, beta = self.scale_and_shift()
        return scale * gamma, shift * gamma + beta
