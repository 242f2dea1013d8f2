"""BatchNorm by collected statistics, Scale, Eltwise and ReLU: y = f(scale x + shift + residual) for each channel.

After a convolution this happens while its outputs are in the cache, else in one pass. Scale and shift are made of the
layers' parameters, in nets that do not learn only when these have changed or may change at any time.
"""

from __future__ import annotations

import numpy as np

from caffetools.engine.cpu.finish import Finish
from caffetools.layer import TEST
from caffetools.layers.scale import scale_forward
from caffetools.net.fused.members import FusedStep


class AffineStep(FusedStep):
    def __init__(self, first, last, members):
        super().__init__(first, last, members)
        self.nothing = np.empty(0, self.dtype)
        self.normalises = [] if self.batch_norm is None else list(self.batch_norm.layer.blobs[:3])
        if self.normalises and self.scale is not None:
            self.normalises += self.scale.layer.blobs
        self.folded: tuple[np.ndarray, np.ndarray] | None = None
        self.folded_of: list[int] | None = None
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
        versions = self._versions()
        if versions is None or versions != self.folded_of:
            self.folded, self.folded_of = self._fold(), versions
        return self.folded

    def _fold(self):
        scale, shift = self.batch_norm.layer.collected_affine()
        if self.scale is None:
            return scale.copy(), shift
        gamma, beta = self.scale_and_shift()
        return scale * gamma, shift * gamma + beta

    def _versions(self):
        """Return the versions of all parameters that are folded, or None if they may change at any time."""
        if self.members[0].layer.phase != TEST:
            return None
        versions = [blob.data_version() for blob in self.normalises]
        return None if None in versions else versions
