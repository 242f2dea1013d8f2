"""BatchNorm by the batch's statistics, Scale, Eltwise and ReLU: y = f(gamma x^ + beta + residual).

Forward takes the passes that the statistics need and one more. Backward takes two: one for g = dy f', which is the
residual's gradient, and its sums, one for dx. A convolution in front puts x where it is kept for the backward pass,
so that BatchNorm does not have to copy it there.
"""

from __future__ import annotations

import numpy as np

from caffetools.net.fused.members import FusedStep


class NormaliseStep(FusedStep):
    def __init__(self, first, last, members):
        super().__init__(first, last, members)
        self.goes_backward = any(member.needs_backward for member in members)

    def unwritten(self):
        norm = self.batch_norm
        used = norm.bottoms[0], *norm.layer.kept()
        return [blob for blob in super().unwritten() if all(blob is not other for other in used)]

    def forward(self):
        norm = self.batch_norm.layer
        if self.convolution is None:
            x, keep = self.bottom.flat_data, norm.in_place
        else:
            x, keep = self._kept(), False
            self.convolution.layer.forward_finished(self.bottom.flat_data, x, None)
        norm.normalise(x, self.top.flat_data, keep, self._affine(), self.residual, self.slope)

    def backward(self):
        norm = self.batch_norm.layer
        mask = None if self.relu is None else (self.top.flat_data, self.slope)
        dy, dx = self.top.flat_diff, self.batch_norm.bottoms[0].flat_diff
        residual_diff = None
        if self.other is not None and self.eltwise.propagate_down[self.other]:
            residual_diff = self.eltwise.bottoms[self.other].flat_diff
        norm.normalise_backward(self._kept(), dy, dx, self._affine()[0], mask, residual_diff)
        if self.scale is not None:
            self.scale.layer.add_gradients(*norm.sums)
        if self.convolution is not None:
            member = self.convolution
            member.layer.backward(member.tops, member.propagate_down, member.bottoms)

    def part(self):
        norm = self.batch_norm.layer
        collected = [np.array(blob.data) for blob in norm.blobs]
        if self.convolution is None and norm.in_place:
            np.copyto(self.bottom.flat_data, norm.input)
        for member in self.members:
            member.layer.forward(member.bottoms, member.tops)
        for blob, values in zip(norm.blobs, collected, strict=True):
            blob.data[...] = values

    def _kept(self):
        """Return where x is kept, flat."""
        norm = self.batch_norm.layer
        return norm.input if norm.in_place else self.batch_norm.bottoms[0].flat_data

    def _affine(self):
        """Return gamma and beta."""
        return self.batch_norm.layer.identity if self.scale is None else self.scale_and_shift()
