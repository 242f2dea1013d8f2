"""InnerProduct and ReLU on the GPU: a product of matrices, and one pass for the bias and the ReLU."""

from __future__ import annotations

from caffetools.engine.gpu.finish import finish
from caffetools.layers.inner_product_cu import multiply
from caffetools.net.fused.device_step import DeviceStep


class DeviceDenseStep(DeviceStep):
    def forward(self):
        layer = self.members[0].layer
        bias = layer.blobs[1].gpu_data if len(layer.blobs) > 1 else None
        x, y = self.bottom.gpu_data, self.top.mutable_gpu_data
        multiply(layer, x, y)
        finish(y, y, 1, shift=bias, slope=self.slope)
