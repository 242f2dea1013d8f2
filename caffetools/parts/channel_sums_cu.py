"""Sums over each channel of (items, channels, plane), on the GPU.

The items are cut into parts, so that there are enough blocks for all processors even where there are few channels; the
parts' sums are written side by side and added in their order, which is the same on every device.
"""

from __future__ import annotations

import math

from numba import cuda

from caffetools.engine.gpu.device import current
from caffetools.engine.gpu.events import simulated
from caffetools.engine.gpu.index import quotient
from caffetools.engine.gpu.launch import THREADS, cuda_kernel, launch, launch_blocks
from caffetools.engine.gpu.reduce import block_sum

#: Blocks that are wanted. Not by the device's number of processors: the order of the additions would differ.
BLOCKS = 12 if simulated() else 2048


class ChannelSums:
    """The sums for given shapes. Scratch is the engine's workspace."""

    def __init__(self, items: int, channels: int, plane: int, dtype):
        self.channels = channels
        parts = max(1, min(items, BLOCKS // max(channels, 1)))
        self._shape = items, channels, plane, parts
        self._blocks = channels * parts
        current().workspace.reserve(2 * self._blocks, dtype)

    def moments(self, x, eps, fraction, collected, mean, inv_std) -> None:
        """Write mean and 1 / sqrt(var + eps) of each channel.

        collected: sums of means, of variances (unbiased), and of their weights; they become fraction old + new.
        """
        scratch = current().workspace.array(x.dtype)
        launch_blocks(part_moments, self._blocks, THREADS, x, *self._shape, scratch)
        numbers = *self._shape, eps, fraction
        launch(whole_moments, self.channels, scratch, *numbers, *collected, mean, inv_std)

    def gradient_means(self, x, dy, mean, inv_std, sums, products) -> None:
        """Write the means over each channel of dy, and of dy times the normalised x."""
        scratch = current().workspace.array(x.dtype)
        launch_blocks(part_gradients, self._blocks, THREADS, x, dy, mean, *self._shape, scratch)
        launch(whole_gradients, self.channels, scratch, *self._shape, inv_std, sums, products)

    def masked_gradient_means(self, x, dy, y, slope, mean, inv_std, sums, products) -> None:
        """Write the same of g, which is dy where y is positive, and slope dy elsewhere."""
        scratch = current().workspace.array(x.dtype)
        arrays = x, dy, y, slope, mean
        launch_blocks(part_masked_gradients, self._blocks, THREADS, *arrays, *self._shape, scratch)
        launch(whole_gradients, self.channels, scratch, *self._shape, inv_std, sums, products)

    def products(self, dy, x, accumulate: bool, result) -> None:
        """Write the sums of dy x, or add them to what is there."""
        scratch = current().workspace.array(x.dtype)
        launch_blocks(part_products, self._blocks, THREADS, dy, x, *self._shape, scratch)
        launch(whole_sums, self.channels, scratch, self._shape[3], accumulate, result)

    def totals(self, dy, accumulate: bool, result) -> None:
        """Write the sums of dy, or add them to what is there."""
        scratch = current().workspace.array(dy.dtype)
        launch_blocks(part_sums, self._blocks, THREADS, dy, *self._shape, scratch)
        launch(whole_sums, self.channels, scratch, self._shape[3], accumulate, result)


@cuda_kernel
def part_moments(x, items, channels, plane, parts, scratch):
    """Mean of each part of a channel, and the sum of squared distances from it; a block for each part."""
    shared = cuda.shared.array(THREADS, x.dtype)
    thread, threads = cuda.threadIdx.x, cuda.blockDim.x
    zero = x.dtype.type(0)
    for job in range(cuda.blockIdx.x, channels * parts, cuda.gridDim.x):
        part = quotient(job, channels)
        channel = job - part * channels
        start = part * items // parts
        count = ((part + 1) * items // parts - start) * plane
        own = zero
        for k in range(thread, count, threads):
            item = quotient(k, plane)
            own += x[((start + item) * channels + channel) * plane + k - item * plane]
        average = block_sum(own, shared) / x.dtype.type(count)
        own = zero
        for k in range(thread, count, threads):
            item = quotient(k, plane)
            v = x[((start + item) * channels + channel) * plane + k - item * plane] - average
            own += v * v
        spread = block_sum(own, shared)
        if thread == 0:
            scratch[job] = average
            scratch[channels * parts + job] = spread


@cuda_kernel
def whole_moments(
    scratch, items, channels, plane, parts, eps, fraction, mean_sum, var_sum, weight, mean, inv_std
):
    """See `ChannelSums.moments`; parts are joined as Chan et al. (1983) do it."""
    zero, one = mean.dtype.type(0), mean.dtype.type(1)
    size = mean.dtype.type(items * plane)
    for c in range(cuda.grid(1), channels, cuda.gridsize(1)):
        average, spread, before = scratch[c], scratch[channels * parts + c], items // parts * plane
        for part in range(1, parts):
            count = ((part + 1) * items // parts - part * items // parts) * plane
            distance = scratch[part * channels + c] - average
            share = mean.dtype.type(count) / mean.dtype.type(before + count)
            average += distance * share
            spread += scratch[(parts + part) * channels + c] + distance * distance * (
                mean.dtype.type(before) * share
            )
            before += count
        variance = spread / size
        mean[c] = average
        inv_std[c] = one / math.sqrt(variance + eps)
        # One value has no spread: the original multiplies by 1 then.
        unbiased = variance * (size / (size - one) if size > one else one)
        mean_sum[c] = fraction * mean_sum[c] + average
        var_sum[c] = fraction * var_sum[c] + unbiased
        if c == 0:
            weight[0] = fraction * weight[0] + one if size > zero else weight[0]


@cuda_kernel
def part_gradients(x, dy, mean, items, channels, plane, parts, scratch):
    """Sums of dy, and of dy times the distance of x from its mean."""
    shared = cuda.shared.array(THREADS, x.dtype)
    thread, threads = cuda.threadIdx.x, cuda.blockDim.x
    zero = x.dtype.type(0)
    for job in range(cuda.blockIdx.x, channels * parts, cuda.gridDim.x):
        part = quotient(job, channels)
        channel = job - part * channels
        start = part * items // parts
        count = ((part + 1) * items // parts - start) * plane
        average = mean[channel]
        own, own_product = zero, zero
        for k in range(thread, count, threads):
            item = quotient(k, plane)
            i = ((start + item) * channels + channel) * plane + k - item * plane
            own += dy[i]
            own_product += dy[i] * (x[i] - average)
        total = block_sum(own, shared)
        product = block_sum(own_product, shared)
        if thread == 0:
            scratch[job] = total
            scratch[channels * parts + job] = product


@cuda_kernel
def part_masked_gradients(x, dy, y, slope, mean, items, channels, plane, parts, scratch):
    """Sums of g, and of g times the distance of x from its mean; g is dy where y is positive, else slope dy."""
    shared = cuda.shared.array(THREADS, x.dtype)
    thread, threads = cuda.threadIdx.x, cuda.blockDim.x
    zero = x.dtype.type(0)
    for job in range(cuda.blockIdx.x, channels * parts, cuda.gridDim.x):
        part = quotient(job, channels)
        channel = job - part * channels
        start = part * items // parts
        count = ((part + 1) * items // parts - start) * plane
        average = mean[channel]
        own, own_product = zero, zero
        for k in range(thread, count, threads):
            item = quotient(k, plane)
            i = ((start + item) * channels + channel) * plane + k - item * plane
            g = dy[i] if y[i] > zero else slope * dy[i]
            own += g
            own_product += g * (x[i] - average)
        total = block_sum(own, shared)
        product = block_sum(own_product, shared)
        if thread == 0:
            scratch[job] = total
            scratch[channels * parts + job] = product


@cuda_kernel
def whole_gradients(scratch, items, channels, plane, parts, inv_std, sums, products):
    zero, size = sums.dtype.type(0), sums.dtype.type(items * plane)
    for c in range(cuda.grid(1), channels, cuda.gridsize(1)):
        total, product = zero, zero
        for part in range(parts):
            total += scratch[part * channels + c]
            product += scratch[(parts + part) * channels + c]
        sums[c] = total / size
        products[c] = product * inv_std[c] / size


@cuda_kernel
def part_products(dy, x, items, channels, plane, parts, scratch):
    shared = cuda.shared.array(THREADS, x.dtype)
    thread = cuda.threadIdx.x
    for job in range(cuda.blockIdx.x, channels * parts, cuda.gridDim.x):
        part = quotient(job, channels)
        channel = job - part * channels
        start = part * items // parts
        own = x.dtype.type(0)
        for k in range(thread, ((part + 1) * items // parts - start) * plane, cuda.blockDim.x):
            item = quotient(k, plane)
            i = ((start + item) * channels + channel) * plane + k - item * plane
            own += dy[i] * x[i]
        total = block_sum(own, shared)
        if thread == 0:
            scratch[job] = total


@cuda_kernel
def part_sums(dy, items, channels, plane, parts, scratch):
    shared = cuda.shared.array(THREADS, dy.dtype)
    thread = cuda.threadIdx.x
    for job in range(cuda.blockIdx.x, channels * parts, cuda.gridDim.x):
        part = quotient(job, channels)
        channel = job - part * channels
        start = part * items // parts
        own = dy.dtype.type(0)
        for k in range(thread, ((part + 1) * items // parts - start) * plane, cuda.blockDim.x):
            item = quotient(k, plane)
            own += dy[((start + item) * channels + channel) * plane + k - item * plane]
        total = block_sum(own, shared)
        if thread == 0:
            scratch[job] = total


@cuda_kernel
def whole_sums(scratch, parts, accumulate, result):
    for c in range(cuda.grid(1), result.size, cuda.gridsize(1)):
        total = result[c] if accumulate else result.dtype.type(0)
        for part in range(parts):
            total += scratch[part * result.size + c]
        result[c] = total
