"""BatchNorm by collected statistics, Scale, Eltwise and ReLU on the GPU: y = f(scale x + shift + residual).

Behind a convolution, scale and shift are folded into copies of its weights and its bias, once for as long as the
parameters stay as they are; sum and ReLU happen where its outputs are written.
"""

from __future__ import annotations

from numba import cuda

from caffetools.engine.gpu.device import current
from caffetools.engine.gpu.finish import finish
from caffetools.engine.gpu.launch import cuda_kernel, launch
from caffetools.engine.gpu.memory import device_array
from caffetools.layers.batch_norm_cu import of_collected, scale_channels
from caffetools.layers.convolution_cu import bias_of
from caffetools.net.fused.device_step import DeviceStep


class DeviceAffineStep(DeviceStep):
    def __init__(self, first, last, members, forward_of):
        super().__init__(first, last, members, forward_of)
        sources = [each for each in (self.convolution, self.batch_norm, self.scale) if each is not None]
        self._folds = sources != [self.convolution]
        self._sources = [blob for each in sources for blob in each.layer.blobs]
        self._folded_of: list[tuple] | None = None

    def forward(self):
        if self._folds:
            self._fold()
        x, residual = self.bottom.gpu_data, self.residual
        y = self.top.mutable_gpu_data
        if self.convolution is None:
            inner = self.bottom.count_from(2)
            finish(x, y, inner, self._factors, self._shift, residual, self.slope)
            return
        layer = self.convolution.layer
        w, bias = (self._weights, self._shift) if self._folds else (layer.blobs[0].gpu_data, bias_of(layer))
        layer.gpu.plan.forward(x, w, bias, y, residual, self.slope)

    def _fold(self):
        """Make factors and shifts, and weights, of all parameters, if these have changed."""
        state = [(blob.data_storage, blob.data_storage.writes) for blob in self._sources]
        if state == self._folded_of:
            return
        if self._folded_of is None:
            self._allocate()
        self._folded_of = state
        mean, inv_std, bias = self._zeros, self._ones, None
        if self.batch_norm is not None:
            norm = self.batch_norm.layer
            mean, inv_std = norm.gpu.mean, norm.gpu.inv_std
            launch(of_collected, norm.channels, *(blob.gpu_data for blob in norm.blobs), norm.eps, mean, inv_std)
        if self.convolution is not None:
            bias = bias_of(self.convolution.layer)
        parameters = mean, inv_std, *self.affine(self._ones, self._zeros), self._zeros if bias is None else bias
        launch(fold, self._shift.size, *parameters, self._factors, self._shift)
        if self.convolution is not None:
            w = self.convolution.layer.blobs[0].gpu_data
            launch(scale_channels, w.size, w, self._factors, w.size // self._shift.size, self._weights)

    def _allocate(self):
        channels = self.bottom.shape[1] if self.convolution is None else self.convolution.layer.outputs
        self._ones, self._zeros = self.constant(1, channels), self.constant(0, channels)
        self._factors, self._shift = (device_array(current(), channels, self.dtype) for _ in range(2))
        if self.convolution is not None:
            self._weights = device_array(current(), self.convolution.layer.blobs[0].count, self.dtype)


@cuda_kernel
def fold(mean, inv_std, gamma, beta, bias, factors, shift):
    """gamma (x + bias - mean) inv_std + beta = factors x + shift"""
    for c in range(cuda.grid(1), shift.size, cuda.gridsize(1)):
        factor = gamma[c] * inv_std[c]
        factors[c] = factor
        shift[c] = (bias[c] - mean[c]) * factor + beta[c]
