"""BatchNorm on the GPU; the mathematics is in `batch_norm`."""

from __future__ import annotations

import math

from numba import cuda

from caffetools.engine.gpu.device import current
from caffetools.engine.gpu.index import middle
from caffetools.engine.gpu.launch import cuda_kernel, launch
from caffetools.engine.gpu.memory import device_array
from caffetools.parts.channel_sums_cu import ChannelSums


def setup(layer, bottom, top):
    engine, gpu, channels = current(), layer.gpu, layer.channels
    gpu.mean, gpu.inv_std = device_array(engine, channels, layer.dtype), device_array(engine, channels, layer.dtype)
    # The channels' sums of dy and of dy times the normalised x.
    gpu.sums, gpu.products = (device_array(engine, channels, layer.dtype) for _ in range(2))


def reshape(layer, bottom, top):
    items = bottom[0].count // max(1, layer.channels * layer.spatial)
    layer.gpu.channel_sums = ChannelSums(items, layer.channels, layer.spatial, layer.dtype)
    keep = top[0] is bottom[0] and not layer.use_global_stats
    layer.gpu.kept_input = device_array(current(), bottom[0].count, layer.dtype) if keep else None


def forward(layer, bottom, top):
    if layer.scale_bias:
        layer.forward(bottom, top)  # a fork's form of the layer, which runs on the host
        return
    gpu, x = layer.gpu, bottom[0].gpu_data
    if layer.use_global_stats:
        mean_sum, var_sum, weight = (blob.gpu_data for blob in layer.blobs)
        launch(of_collected, layer.channels, mean_sum, var_sum, weight, layer.eps, gpu.mean, gpu.inv_std)
    else:
        collected = [blob.mutable_gpu_data for blob in layer.blobs]
        gpu.channel_sums.moments(x, layer.eps, layer.fraction, collected, gpu.mean, gpu.inv_std)
        if gpu.kept_input is not None:
            moments = gpu.mean, gpu.inv_std
            launch(normalise_keeping, x.size, *moments, layer.spatial, gpu.kept_input, top[0].mutable_gpu_data)
            return
    launch(normalise, x.size, x, gpu.mean, gpu.inv_std, layer.spatial, top[0].mutable_gpu_data)


def backward(layer, top, propagate_down, bottom):
    if layer.scale_bias:
        layer.backward(top, propagate_down, bottom)
        return
    if not propagate_down[0]:
        return
    gpu, dy = layer.gpu, top[0].gpu_diff
    if layer.use_global_stats:
        launch(scale_channels, dy.size, dy, gpu.inv_std, layer.spatial, bottom[0].mutable_gpu_diff)
        return
    x = bottom[0].gpu_data if gpu.kept_input is None else gpu.kept_input
    moments = gpu.mean, gpu.inv_std
    gpu.channel_sums.gradient_means(x, dy, *moments, gpu.sums, gpu.products)
    dx = bottom[0].mutable_gpu_diff
    launch(batch_norm_backward, dx.size, x, dy, *moments, layer.spatial, gpu.sums, gpu.products, dx)


@cuda_kernel
def of_collected(mean_sum, var_sum, weight, eps, mean, inv_std):
    """mean and 1 / sqrt(var + eps) of the collected statistics; without any they are those of zeros."""
    zero, one = mean.dtype.type(0), mean.dtype.type(1)
    factor = zero if weight[0] == zero else one / weight[0]
    for c in range(cuda.grid(1), mean.size, cuda.gridsize(1)):
        mean[c] = mean_sum[c] * factor
        inv_std[c] = one / math.sqrt(var_sum[c] * factor + eps)


@cuda_kernel
def normalise(x, mean, inv_std, spatial, y):
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        c = middle(i, mean.size, spatial)
        y[i] = (x[i] - mean[c]) * inv_std[c]


@cuda_kernel
def normalise_keeping(mean, inv_std, spatial, kept, y):
    """Normalise y, and keep what it was."""
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        c = middle(i, mean.size, spatial)
        v = y[i]
        kept[i] = v
        y[i] = (v - mean[c]) * inv_std[c]


@cuda_kernel
def scale_channels(x, factors, spatial, y):
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        y[i] = x[i] * factors[middle(i, factors.size, spatial)]


@cuda_kernel
def batch_norm_backward(x, dy, mean, inv_std, spatial, sums, products, dx):
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        c = middle(i, mean.size, spatial)
        y = (x[i] - mean[c]) * inv_std[c]
        dx[i] = (dy[i] - sums[c] - y * products[c]) * inv_std[c]
