"""Update rules on the GPU: the kernels of `rules`, each one pass over all parameters.

What they take besides: the gradients' scale as an array of one element, because clipping computes it on the device,
where NaN says that the step is to be skipped; the rate, and the factors for it and the decays by parameter; whether the
decay is decoupled; and the numbers of `Rule.hyper`.
A row of the table (start, end, parameter) is the work of one block of threads.
"""

from __future__ import annotations

import math

import numpy as np
from numba import cuda

from caffetools.engine.gpu.launch import THREADS, cuda_device, cuda_kernel
from caffetools.engine.gpu.reduce import block_sum


@cuda_kernel
def squares_of_blocks(g, table, sums):
    """Write the sum of squares of each row of the table, in float64."""
    shared = cuda.shared.array(THREADS, np.float64)
    thread = cuda.threadIdx.x
    for b in range(cuda.blockIdx.x, sums.size, cuda.gridDim.x):
        own = np.float64(0)
        for i in range(table[3 * b] + thread, table[3 * b + 1], cuda.blockDim.x):
            v = np.float64(g[i])
            own += v * v
        total = block_sum(own, shared)
        if thread == 0:
            sums[b] = total


@cuda_kernel
def clip(sums, limit, passes, norm, scale):
    """norm[0] = the L2 norm; scale[0] = what clips it to the limit (negative: none), divided by `passes`.

    By the first block.
    """
    shared = cuda.shared.array(THREADS, np.float64)
    thread = cuda.threadIdx.x
    if cuda.blockIdx.x == 0:
        own = np.float64(0)
        for i in range(thread, sums.size, cuda.blockDim.x):
            own += sums[i]
        total = math.sqrt(block_sum(own, shared))
        if thread == 0:
            norm[0] = total
            # Written so that a NaN clips nothing.
            scale[0] = (limit / total if limit >= 0 and total > limit else np.float64(1)) / passes


@cuda_device
def rows_of(table, scale):
    """Return how many rows of the table are worked on: none where the step is skipped."""
    return table.size // 3 if scale[0] == scale[0] else 0


@cuda_device
def gradient(w, g, i, scale, decay, l1):
    """Return the scaled gradient with its weight decay: L2 adds decay * w, L1 adds decay * sign(w)."""
    zero, one = w.dtype.type(0), w.dtype.type(1)
    v = g[i] * scale
    if l1:
        return v + decay * (one if w[i] > zero else (-one if w[i] < zero else zero))
    return v + decay * w[i]


@cuda_device
def decayed(w, i, rate, decay, decoupled):
    """Return the decay that belongs to the gradient; a decoupled one is applied to the weight instead."""
    if decoupled:
        w[i] *= w.dtype.type(1) - rate * decay
        return w.dtype.type(0)
    return decay


@cuda_kernel
def sgd(w, g, h, table, scale, rate, rate_mults, decays, l1, decoupled, momentum):
    for b in range(cuda.blockIdx.x, rows_of(table, scale), cuda.gridDim.x):
        a, decay = rate * rate_mults[table[3 * b + 2]], decays[table[3 * b + 2]]
        for i in range(table[3 * b] + cuda.threadIdx.x, table[3 * b + 1], cuda.blockDim.x):
            v = gradient(w, g, i, scale[0], decayed(w, i, a, decay, decoupled), l1)
            u = momentum * h[i] + a * v
            h[i] = u
            g[i] = u
            w[i] -= u


@cuda_kernel
def nesterov(w, g, h, table, scale, rate, rate_mults, decays, l1, decoupled, momentum):
    one = w.dtype.type(1)
    for b in range(cuda.blockIdx.x, rows_of(table, scale), cuda.gridDim.x):
        a, decay = rate * rate_mults[table[3 * b + 2]], decays[table[3 * b + 2]]
        for i in range(table[3 * b] + cuda.threadIdx.x, table[3 * b + 1], cuda.blockDim.x):
            v = gradient(w, g, i, scale[0], decayed(w, i, a, decay, decoupled), l1)
            old = h[i]
            new = momentum * old + a * v
            h[i] = new
            u = (one + momentum) * new - momentum * old
            g[i] = u
            w[i] -= u


@cuda_kernel
def adagrad(w, g, h, table, scale, rate, rate_mults, decays, l1, decoupled, delta):
    for b in range(cuda.blockIdx.x, rows_of(table, scale), cuda.gridDim.x):
        a, decay = rate * rate_mults[table[3 * b + 2]], decays[table[3 * b + 2]]
        for i in range(table[3 * b] + cuda.threadIdx.x, table[3 * b + 1], cuda.blockDim.x):
            v = gradient(w, g, i, scale[0], decayed(w, i, a, decay, decoupled), l1)
            h[i] += v * v
            u = a * v / (math.sqrt(h[i]) + delta)
            g[i] = u
            w[i] -= u


@cuda_kernel
def rmsprop(w, g, h, table, scale, rate, rate_mults, decays, l1, decoupled, delta, keep):
    one = w.dtype.type(1)
    for b in range(cuda.blockIdx.x, rows_of(table, scale), cuda.gridDim.x):
        a, decay = rate * rate_mults[table[3 * b + 2]], decays[table[3 * b + 2]]
        for i in range(table[3 * b] + cuda.threadIdx.x, table[3 * b + 1], cuda.blockDim.x):
            v = gradient(w, g, i, scale[0], decayed(w, i, a, decay, decoupled), l1)
            h[i] = keep * h[i] + (one - keep) * v * v
            u = a * v / (math.sqrt(h[i]) + delta)
            g[i] = u
            w[i] -= u


@cuda_kernel
def adadelta(w, g, h, table, scale, rate, rate_mults, decays, l1, decoupled, delta, keep):
    one = w.dtype.type(1)
    for b in range(cuda.blockIdx.x, rows_of(table, scale), cuda.gridDim.x):
        a, decay = rate * rate_mults[table[3 * b + 2]], decays[table[3 * b + 2]]
        for i in range(table[3 * b] + cuda.threadIdx.x, table[3 * b + 1], cuda.blockDim.x):
            v = gradient(w, g, i, scale[0], decayed(w, i, a, decay, decoupled), l1)
            k = w.size + i
            h[i] = keep * h[i] + (one - keep) * v * v
            v *= math.sqrt((h[k] + delta) / (h[i] + delta))
            h[k] = keep * h[k] + (one - keep) * v * v
            g[i] = a * v
            w[i] -= a * v


@cuda_kernel
def adam(w, g, h, table, scale, rate, rate_mults, decays, l1, decoupled, delta, b1, b2, correction):
    one = w.dtype.type(1)
    for b in range(cuda.blockIdx.x, rows_of(table, scale), cuda.gridDim.x):
        a, decay = rate * rate_mults[table[3 * b + 2]], decays[table[3 * b + 2]]
        for i in range(table[3 * b] + cuda.threadIdx.x, table[3 * b + 1], cuda.blockDim.x):
            v = gradient(w, g, i, scale[0], decayed(w, i, a, decay, decoupled), l1)
            k = w.size + i
            h[i] = b1 * h[i] + (one - b1) * v
            h[k] = b2 * h[k] + (one - b2) * v * v
            u = a * correction * h[i] / (math.sqrt(h[k]) + delta)
            g[i] = u
            w[i] -= u


#: By the name of the CPU's kernel.
KERNELS = {
    "sgd": sgd,
    "nesterov": nesterov,
    "adagrad": adagrad,
    "rmsprop": rmsprop,
    "adadelta": adadelta,
    "adam": adam,
}
