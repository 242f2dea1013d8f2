"""BN on the GPU; the mathematics is in `bn`."""

from __future__ import annotations

import math

from numba import cuda

from caffetools.engine.gpu import vector
from caffetools.engine.gpu.device import current
from caffetools.engine.gpu.index import middle
from caffetools.engine.gpu.launch import cuda_kernel, launch
from caffetools.engine.gpu.memory import device_array, zero
from caffetools.parts.channel_sums_cu import ChannelSums


def setup(layer, bottom, top):
    engine, gpu, channels = current(), layer.gpu, layer.channels
    names = ("mean", "inv_std", "batch_mean", "batch_var", "sums", "products", "zeros", "ones")
    for name in names:
        setattr(gpu, name, device_array(engine, channels, layer.dtype))
    gpu.weight = device_array(engine, 1, layer.dtype)
    # Of the batch's statistics nothing is kept, but nothing times what happens to be there may be NaN.
    for array in (gpu.zeros, gpu.batch_mean, gpu.batch_var, gpu.weight):
        zero(engine, array)
    launch(vector.fill, channels, layer.dtype.type(1), gpu.ones)


def reshape(layer, bottom, top):
    layer.gpu.channel_sums = ChannelSums(layer.items, layer.channels, layer.spatial, layer.dtype)
    keep = layer.in_place and not layer.use_running
    layer.gpu.kept_input = device_array(current(), bottom[0].count, layer.dtype) if keep else None


def forward(layer, bottom, top):
    gpu, x = layer.gpu, bottom[0].gpu_data
    slope, bias = layer.blobs[0].gpu_data, layer.blobs[1].gpu_data
    if gpu.kept_input is not None:
        vector.copy(x, gpu.kept_input)
        x = gpu.kept_input
    mean, inv_std = _statistics(layer, x)
    launch(bn_forward, x.size, x, mean, inv_std, slope, bias, layer.spatial, top[0].mutable_gpu_data)


def _statistics(layer, x):
    """Return mean and 1 / sqrt(var + eps) of each channel."""
    gpu = layer.gpu
    if layer.affine_only:
        return gpu.zeros, gpu.ones
    if layer.use_running:
        mean, var = layer.blobs[2].gpu_data, layer.blobs[3].gpu_data
        launch(inverse_roots, layer.channels, var, layer.eps, gpu.inv_std)
        return mean, gpu.inv_std
    moments = gpu.mean, gpu.inv_std
    nothing = layer.dtype.type(0)  # of the old statistics stays: those of the batch are wanted
    collect = gpu.batch_mean, gpu.batch_var, gpu.weight
    gpu.channel_sums.moments(x, layer.eps, nothing, collect, *moments)
    if not layer.segnet:
        count = layer.items * layer.spatial
        # These forks collect the variance of the batch itself; the kernel's is the unbiased one.
        factors = layer.dtype.type(1), layer.dtype.type((count - 1) / count if count else 1)
        for blob, batch, factor in zip(layer.blobs[2:], collect, factors, strict=False):
            launch(move_towards, layer.channels, batch, factor, layer.momentum, blob.mutable_gpu_data)
    return moments


def backward(layer, top, propagate_down, bottom):
    gpu, dy = layer.gpu, top[0].gpu_diff
    slope = layer.blobs[0].gpu_data
    if layer.use_running:
        if propagate_down[0]:
            nothing = gpu.zeros, gpu.zeros
            dx = bottom[0].mutable_gpu_diff
            x = dy  # is multiplied by nothing
            moments = gpu.zeros, gpu.inv_std
            launch(bn_backward, dx.size, x, dy, *moments, slope, layer.spatial, *nothing, dx)
        return
    x = bottom[0].gpu_data if gpu.kept_input is None else gpu.kept_input
    moments = (gpu.zeros, gpu.ones) if layer.affine_only else (gpu.mean, gpu.inv_std)
    gpu.channel_sums.gradient_means(x, dy, *moments, gpu.sums, gpu.products)
    count = layer.dtype.type(layer.items * layer.spatial)
    for blob, means, wanted in zip(
        layer.blobs, (gpu.products, gpu.sums), layer.param_propagate_down, strict=False
    ):
        if wanted:
            launch(vector.add_multiple, layer.channels, count, means, blob.mutable_gpu_diff)
    if propagate_down[0]:
        # Scale and shift alone have no statistics that depend on x.
        means = (gpu.zeros, gpu.zeros) if layer.affine_only else (gpu.sums, gpu.products)
        dx = bottom[0].mutable_gpu_diff
        launch(bn_backward, dx.size, x, dy, *moments, slope, layer.spatial, *means, dx)


@cuda_kernel
def inverse_roots(var, eps, inv_std):
    for c in range(cuda.grid(1), var.size, cuda.gridsize(1)):
        inv_std[c] = var.dtype.type(1) / math.sqrt(var[c] + eps)


@cuda_kernel
def move_towards(batch, factor, momentum, running):
    """running = momentum running + (1 - momentum) factor batch"""
    one = running.dtype.type(1)
    for c in range(cuda.grid(1), running.size, cuda.gridsize(1)):
        running[c] = momentum * running[c] + (one - momentum) * (factor * batch[c])


@cuda_kernel
def bn_forward(x, mean, inv_std, slope, bias, spatial, y):
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        c = middle(i, mean.size, spatial)
        y[i] = slope[c] * ((x[i] - mean[c]) * inv_std[c]) + bias[c]


@cuda_kernel
def bn_backward(x, dy, mean, inv_std, slope, spatial, sums, products, dx):
    """sums, products: means over each channel of dy and of dy times the normalised x."""
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        c = middle(i, mean.size, spatial)
        normalised = (x[i] - mean[c]) * inv_std[c]
        dx[i] = slope[c] * inv_std[c] * (dy[i] - sums[c] - normalised * products[c])
