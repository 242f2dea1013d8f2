"""BatchNorm by the batch's statistics, Scale, Eltwise and ReLU as one on the GPU: y = f(gamma x^ + beta + residual).

Forward takes the pass for the statistics and one more, backward one for the sums and one for dx and the residual's
gradient. What a channel is summed by is in `parts.channel_sums_cu`. A convolution in front puts x where it is kept for
the backward pass, so that nobody has to copy it there.
"""

from __future__ import annotations

import numpy as np
from numba import cuda

from caffetools.engine.gpu import vector
from caffetools.engine.gpu.finish import optional
from caffetools.engine.gpu.index import middle
from caffetools.engine.gpu.launch import cuda_kernel, launch
from caffetools.layers import convolution_cu
from caffetools.net.fused.device_step import DeviceStep


class DeviceNormaliseStep(DeviceStep):
    def __init__(self, first, last, members, forward_of):
        super().__init__(first, last, members, forward_of)
        self.goes_backward = any(member.needs_backward for member in members)
        channels = self.batch_norm.layer.channels
        self._ones, self._zeros = self.constant(1, channels), self.constant(0, channels)
        self._source = self.batch_norm.bottoms[0]
        # Else x stays where it is.
        self._overwrites = self._source is self.top

    def forward(self):
        norm = self.batch_norm.layer
        gpu, keeps = norm.gpu, self._overwrites and self.convolution is None
        if self.convolution is not None:
            layer = self.convolution.layer
            x = gpu.kept_input if self._overwrites else self._source.mutable_gpu_data
            bias = convolution_cu.bias_of(layer)
            layer.gpu.plan.forward(self.bottom.gpu_data, layer.blobs[0].gpu_data, bias, x)
        else:
            x = self.bottom.gpu_data
        collected = [blob.mutable_gpu_data for blob in norm.blobs]
        gpu.channel_sums.moments(x, norm.eps, norm.fraction, collected, gpu.mean, gpu.inv_std)
        residual = optional(self.residual, x)
        y = self.top.mutable_gpu_data
        numbers = *self._affine(), *residual, norm.spatial, self.slope, keeps
        launch(normalise_affine, y.size, x, gpu.mean, gpu.inv_std, *numbers, gpu.kept_input if keeps else y, y)

    def backward(self):
        norm = self.batch_norm.layer
        x = norm.gpu.kept_input if self._overwrites else self._source.gpu_data
        gpu, y, dy = norm.gpu, self.top.gpu_data, self.top.gpu_diff
        means = gpu.sums, gpu.products
        gpu.channel_sums.masked_gradient_means(x, dy, y, self.slope, gpu.mean, gpu.inv_std, *means)
        if self.scale is not None:
            layer, count = self.scale.layer, self.dtype.type(x.size // norm.channels)
            for blob, mean, wanted in zip(
                layer.blobs, reversed(means), layer.param_propagate_down, strict=False
            ):
                if wanted:
                    launch(vector.add_multiple, blob.count, count, mean, blob.mutable_gpu_diff)
        residual_diff = None
        if self.other is not None and self.eltwise.propagate_down[self.other]:
            residual_diff = self.eltwise.bottoms[self.other].mutable_gpu_diff
        dx = self._source.mutable_gpu_diff
        numbers = gpu.mean, gpu.inv_std, self._affine()[0], norm.spatial, self.slope, *means
        launch(normalise_affine_backward, dx.size, x, y, dy, *numbers, *optional(residual_diff, dx), dx)
        if self.convolution is not None:
            member = self.convolution
            convolution_cu.backward(member.layer, member.tops, member.propagate_down, member.bottoms)

    def part(self):
        norm = self.batch_norm.layer
        collected = [np.array(blob.cpu_data) for blob in norm.blobs]
        if self._overwrites and self.convolution is None:
            vector.copy(norm.gpu.kept_input, self.bottom.mutable_gpu_data)
        for member, forward in zip(self.members, self.forward_of, strict=True):
            forward(member.bottoms, member.tops)
        for blob, values in zip(norm.blobs, collected, strict=True):
            blob.data[...] = values

    def _affine(self):
        """Return gamma and beta."""
        return self.affine(self._ones, self._zeros)


@cuda_kernel
def normalise_affine(
    x, mean, inv_std, gamma, beta, residual, has_residual, spatial, slope, keep, kept, y
):
    """Normalise x into y, which may be x; keep: put what it was into `kept`."""
    zero = y.dtype.type(0)
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        c = middle(i, mean.size, spatial)
        value = x[i]
        if keep:
            kept[i] = value
        v = gamma[c] * ((value - mean[c]) * inv_std[c]) + beta[c]
        if has_residual:
            v += residual[i]
        y[i] = slope * v if v < zero else v


@cuda_kernel
def normalise_affine_backward(
    x, y, dy, mean, inv_std, gamma, spatial, slope, sums, products, residual_diff, has_residual, dx
):
    """sums, products: means over each channel of g = dy f', and of g times the normalised x."""
    zero = y.dtype.type(0)
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        c = middle(i, mean.size, spatial)
        g = dy[i] if y[i] > zero else slope * dy[i]
        if has_residual:
            residual_diff[i] = g
        normalised = (x[i] - mean[c]) * inv_std[c]
        dx[i] = gamma[c] * inv_std[c] * (g - sums[c] - normalised * products[c])
