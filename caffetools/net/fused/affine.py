"""BatchNorm by collected statistics, Scale, Eltwise and ReLU: y = f(scale x + shift + residual) for each channel.

After a convolution this happens while its outputs are in the cache, else in one pass. Scale and shift are made of the
layers' parameters, in nets that do not learn only when these have changed or may change at any time.

A step that begins with a convolution may have a place in the top of a Concat, into which it writes.
"""

from __future__ import annotations

import numpy as np

from caffetools.engine.cpu.finish import Finish
from caffetools.layer import TEST
from caffetools.layers.scale import scale_forward
from caffetools.net.fused.members import FusedStep
from caffetools.net.fused.place import Place


class AffineStep(FusedStep):
    def __init__(self, first, last, members):
        super().__init__(first, last, members)
        self.nothing = np.empty(0, self.dtype)
        self.normalises = [] if self.batch_norm is None else list(self.batch_norm.layer.blobs[:3])
        if self.normalises and self.scale is not None:
            self.normalises += self.scale.layer.blobs
        self.folded: tuple[np.ndarray, np.ndarray] | None = None
        self.folded_of: list[int] | None = None
        self.finish: Finish | None = None
        if self.convolution is not None:
            outputs = self.convolution.layer.outputs
            self.identity = np.ones(outputs, self.dtype), np.zeros(outputs, self.dtype)
        self.place: Place | None = None

    @property
    def _elsewhere(self):
        return self.place is not None and self.place.used

    @property
    def goes_backward(self):
        # What tells a ReLU's gradient is elsewhere too.
        return self._elsewhere and self.relu is not None and any(member.needs_backward for member in self.members)

    def unwritten(self):
        return super().unwritten() + ([self.top] if self._elsewhere else [])

    def written(self):
        return [self.place.whole] if self._elsewhere else []

    def forward(self):
        x = self.bottom.flat_data
        if self.convolution is None:
            inner, slope = self.bottom.count_from(2), self.dtype.type(self.slope)
            scale_forward(x, *self._scale_and_shift(), inner, False, self.nothing, slope, self.top.flat_data)
            return
        finish = self._finish() if len(self.members) > 1 else None
        y, channel = (self.place.whole, self.place.channel) if self._elsewhere else (self.top, 0)
        self.convolution.layer.forward_finished(x, y.flat_data, finish, channel)

    def backward(self):
        members = [self.convolution] if self.place.masked else [self.relu, self.convolution]
        self.place.masked = False
        for member in members:
            member.layer.backward(member.tops, member.propagate_down, member.bottoms)

    def part(self):
        if self.place.masked:
            # What the ReLU would do is done: it finds signs that change nothing.
            self.top.flat_data.fill(1)
            self.place.masked = False
        else:
            self.place.copy_back()

    def _finish(self):
        """Return what follows the convolution: the same as before if nothing has changed."""
        (scale, shift), residual, last = self._scale_and_shift(), self.residual, self.finish
        if residual is not None:  # an array that is not to be held
            return Finish(scale, shift, residual, self.slope)
        if last is None or scale is not last.scale or shift is not last.shift:
            last = self.finish = Finish(scale, shift, None, self.slope)
        return last

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
