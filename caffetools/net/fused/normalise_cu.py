"""BatchNorm, Scale and ReLU as one on the GPU, where all work in place: y = f(gamma x^ + beta).

Forward takes the pass for the statistics and one more, backward one for the sums and one for dx. What a channel is
summed by is in `parts.channel_sums_cu`. By collected statistics there is no backward pass here.
"""

from __future__ import annotations

import numpy as np
from numba import cuda

from caffetools.engine.gpu import vector
from caffetools.engine.gpu.device import current
from caffetools.engine.gpu.index import middle
from caffetools.engine.gpu.launch import cuda_kernel, launch
from caffetools.engine.gpu.memory import device_array, zero
from caffetools.layers.batch_norm_cu import of_collected
from caffetools.net.fused.members import FusedStep


class DeviceNormaliseStep(FusedStep):
    """forward_of: the functions that run the members one by one."""

    def __init__(self, first, last, members, forward_of):
        super().__init__(first, last, members)
        norm = self.batch_norm.layer
        self.goes_backward = any(member.needs_backward for member in members) and not norm.use_global_stats
        self._forward_of = forward_of
        self._slope = self.dtype.type(self.slope)
        self._ones, self._zeros = (device_array(current(), norm.channels, self.dtype) for _ in range(2))
        launch(vector.fill, norm.channels, self.dtype.type(1), self._ones)
        zero(current(), self._zeros)

    def forward(self):
        norm, x = self.batch_norm.layer, self.bottom.gpu_data
        gpu, keep = norm.gpu, not norm.use_global_stats
        if keep:
            collected = [blob.mutable_gpu_data for blob in norm.blobs]
            gpu.channel_sums.moments(x, norm.eps, norm.fraction, collected, gpu.mean, gpu.inv_std)
        else:
            collected = [blob.gpu_data for blob in norm.blobs]
            launch(of_collected, norm.channels, *collected, norm.eps, gpu.mean, gpu.inv_std)
        y = self.top.mutable_gpu_data
        numbers = *self._affine(), norm.spatial, self._slope, keep
        launch(normalise_affine, y.size, gpu.mean, gpu.inv_std, *numbers, gpu.kept_input if keep else y, y)

    def backward(self):
        norm = self.batch_norm.layer
        gpu, x, y, dy = norm.gpu, norm.gpu.kept_input, self.top.gpu_data, self.top.gpu_diff
        means = gpu.sums, gpu.products
        gpu.channel_sums.masked_gradient_means(x, dy, y, self._slope, gpu.mean, gpu.inv_std, *means)
        if self.scale is not None:
            layer, count = self.scale.layer, self.dtype.type(x.size // norm.channels)
            for blob, mean, wanted in zip(
                layer.blobs, reversed(means), layer.param_propagate_down, strict=False
            ):
                if wanted:
                    launch(vector.add_multiple, blob.count, count, mean, blob.mutable_gpu_diff)
        dx = self.bottom.mutable_gpu_diff
        moments = gpu.mean, gpu.inv_std, self._affine()[0]
        launch(normalise_affine_backward, dx.size, x, y, dy, *moments, norm.spatial, self._slope, *means, dx)

    def part(self):
        norm = self.batch_norm.layer
        collected = [np.array(blob.cpu_data) for blob in norm.blobs]
        vector.copy(norm.gpu.kept_input, self.bottom.mutable_gpu_data)
        for member, forward in zip(self.members, self._forward_of, strict=True):
            forward(member.bottoms, member.tops)
        for blob, values in zip(norm.blobs, collected, strict=True):
            blob.data[...] = values

    def _affine(self):
        """Return gamma and beta."""
        if self.scale is None:
            return self._ones, self._zeros
        layer = self.scale.layer
        return layer.blobs[0].gpu_data, layer.blobs[1].gpu_data if layer.has_bias else self._zeros


@cuda_kernel
def normalise_affine(mean, inv_std, gamma, beta, spatial, slope, keep, kept, y):
    """Normalise y; keep: put what it was into `kept`."""
    zero = y.dtype.type(0)
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        c = middle(i, mean.size, spatial)
        x = y[i]
        if keep:
            kept[i] = x
        v = gamma[c] * ((x - mean[c]) * inv_std[c]) + beta[c]
        y[i] = slope * v if v < zero else v


@cuda_kernel
def normalise_affine_backward(x, y, dy, mean, inv_std, gamma, spatial, slope, sums, products, dx):
    """sums, products: means over each channel of g = dy f', and of g times the normalised x."""
    zero = y.dtype.type(0)
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        c = middle(i, mean.size, spatial)
        g = dy[i] if y[i] > zero else slope * dy[i]
        normalised = (x[i] - mean[c]) * inv_std[c]
        dx[i] = gamma[c] * inv_std[c] * (g - sums[c] - normalised * products[c])
