"""Eltwise and ReLU on the GPU: y = f(a + b) in one pass."""

from __future__ import annotations

from caffetools.engine.gpu.finish import finish
from caffetools.net.fused.device_step import DeviceStep


class DeviceAddStep(DeviceStep):
    def forward(self):
        a, b = (blob.gpu_data for blob in self.members[0].bottoms)
        finish(a, self.top.mutable_gpu_data, 1, residual=b, slope=self.slope)
