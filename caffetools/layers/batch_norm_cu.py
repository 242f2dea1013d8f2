"""BatchNorm on the GPU; the mathematics is in `batch_norm`. A block sums the values of a channel."""

from __future__ import annotations

import math

from numba import cuda

from caffetools.engine.gpu import vector
from caffetools.engine.gpu.device import current
from caffetools.engine.gpu.launch import THREADS, cuda_kernel, launch, launch_blocks
from caffetools.engine.gpu.memory import device_array
from caffetools.engine.gpu.reduce import block_sum


def setup(layer, bottom, top):
    engine, gpu, channels = current(), layer.gpu, layer.channels
    gpu.mean, gpu.inv_std = device_array(engine, channels, layer.dtype), device_array(engine, channels, layer.dtype)
    # The channels' sums of dy and of dy times the normalised x.
    gpu.sums, gpu.products = (device_array(engine, channels, layer.dtype) for _ in range(2))


def reshape(layer, bottom, top):
    keep = top[0] is bottom[0] and not layer.use_global_stats
    layer.gpu.kept_input = device_array(current(), bottom[0].count, layer.dtype) if keep else None


def forward(layer, bottom, top):
    if layer.scale_bias:
        layer.forward(bottom, top)  # a fork's form of the layer, which runs on the host
        return
    gpu, x = layer.gpu, bottom[0].gpu_data
    if layer.use_global_stats:
        mean_sum, var_sum, weight = (blob.gpu_data for blob in layer.blobs)
        launch(collected, layer.channels, mean_sum, var_sum, weight, layer.eps, gpu.mean, gpu.inv_std)
    else:
        collect = (blob.mutable_gpu_data for blob in layer.blobs)
        launch_blocks(
            batch_statistics,
            layer.channels,
            THREADS,
            x,
            layer.spatial,
            layer.eps,
            layer.fraction,
            *collect,
            gpu.mean,
            gpu.inv_std,
        )
        if gpu.kept_input is not None:
            vector.copy(x, gpu.kept_input)
            x = gpu.kept_input
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
    launch_blocks(
        backward_sums, layer.channels, THREADS, x, dy, *moments, layer.spatial, gpu.sums, gpu.products
    )
    dx = bottom[0].mutable_gpu_diff
    launch(batch_norm_backward, dx.size, x, dy, *moments, layer.spatial, gpu.sums, gpu.products, dx)


@cuda_kernel
def collected(mean_sum, var_sum, weight, eps, mean, inv_std):
    """mean and 1 / sqrt(var + eps) of the collected statistics; without any they are those of zeros."""
    zero, one = mean.dtype.type(0), mean.dtype.type(1)
    factor = zero if weight[0] == zero else one / weight[0]
    for c in range(cuda.grid(1), mean.size, cuda.gridsize(1)):
        mean[c] = mean_sum[c] * factor
        inv_std[c] = one / math.sqrt(var_sum[c] * factor + eps)


@cuda_kernel
def batch_statistics(x, spatial, eps, fraction, mean_sum, var_sum, weight, mean, inv_std):
    """mean and 1 / sqrt(var + eps) of each channel, which are collected as well."""
    shared = cuda.shared.array(THREADS, x.dtype)
    thread, threads = cuda.threadIdx.x, cuda.blockDim.x
    zero, one = x.dtype.type(0), x.dtype.type(1)
    channels = mean.size
    count = x.size // channels
    size = x.dtype.type(count)
    for c in range(cuda.blockIdx.x, channels, cuda.gridDim.x):
        own = zero
        for k in range(thread, count, threads):
            own += x[(k // spatial * channels + c) * spatial + k % spatial]
        average = block_sum(own, shared) / size
        own = zero
        for k in range(thread, count, threads):
            v = x[(k // spatial * channels + c) * spatial + k % spatial] - average
            own += v * v
        variance = block_sum(own, shared) / size
        if thread == 0:
            mean[c] = average
            inv_std[c] = one / math.sqrt(variance + eps)
            # One value has no spread: the original multiplies by 1 then.
            unbiased = variance * (size / (size - one) if count > 1 else one)
            mean_sum[c] = fraction * mean_sum[c] + average
            var_sum[c] = fraction * var_sum[c] + unbiased
            if c == 0:
                weight[0] = fraction * weight[0] + one


@cuda_kernel
def normalise(x, mean, inv_std, spatial, y):
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        c = i // spatial % mean.size
        y[i] = (x[i] - mean[c]) * inv_std[c]


@cuda_kernel
def scale_channels(x, factors, spatial, y):
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        y[i] = x[i] * factors[i // spatial % factors.size]


@cuda_kernel
def backward_sums(x, dy, mean, inv_std, spatial, sums, products):
    """Means over each channel of dy, and of dy times the normalised x."""
    shared = cuda.shared.array(THREADS, x.dtype)
    thread, threads = cuda.threadIdx.x, cuda.blockDim.x
    zero = x.dtype.type(0)
    channels = mean.size
    count = x.size // channels
    size = x.dtype.type(count)
    for c in range(cuda.blockIdx.x, channels, cuda.gridDim.x):
        own, own_product = zero, zero
        for k in range(thread, count, threads):
            i = (k // spatial * channels + c) * spatial + k % spatial
            own += dy[i]
            own_product += dy[i] * (x[i] - mean[c])
        total = block_sum(own, shared)
        product = block_sum(own_product, shared)
        if thread == 0:
            sums[c] = total / size
            products[c] = product * inv_std[c] / size


@cuda_kernel
def batch_norm_backward(x, dy, mean, inv_std, spatial, sums, products, dx):
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        c = i // spatial % mean.size
        y = (x[i] - mean[c]) * inv_std[c]
        dx[i] = (dy[i] - sums[c] - y * products[c]) * inv_std[c]
