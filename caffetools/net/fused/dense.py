"""InnerProduct and ReLU: y = f(x W^T + b)."""

from __future__ import annotations

from caffetools.net.fused.members import FusedStep


class DenseStep(FusedStep):
    def forward(self):
        self.members[0].layer.forward_finished(self.bottom.flat_data, self.top.flat_data, self.slope)
