"""LRN: divide every value by a power of the energy around it (Krizhevsky et al. 2012); local_size n is odd.

    y = x s^-beta
    ACROSS_CHANNELS, over a window of n channels:     s = k + alpha / n * sum x^2
    WITHIN_CHANNEL, over a window of n x n pixels:    s = 1 + alpha / n^2 * sum x^2     (without k)

    dx = dy s^-beta - 2 a beta x sum (dy x s^(-beta - 1)),    a = alpha / n or alpha / n^2, the same windows

Values outside the blob count as zero. Bottom and top have the axes (N, C, H, W). Nothing is kept for the
backward pass: s is cheaper to compute again than to store, a piece at a time in scratch memory that stays in
the cache.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from caffetools.engine.cpu.jit import kernel, parallel_kernel
from caffetools.glog import check, check_eq
from caffetools.layer import Layer
from caffetools.parts.spatial import check_planes
from caffetools.proto import caffe_pb2

# Pixels that are normalised together; across 256 channels their scratch memory is half a megabyte.
BLOCK = 128


class LRNLayer(Layer):
    exact_bottoms = 1
    exact_tops = 1
    backward_reads = ("bottom",)

    def setup(self, bottom, top):
        param = self.param.lrn_param
        size = param.local_size
        words = f"LRN only supports odd values for local_size (layer '{self.name}')"
        check_eq(size % 2, 1, "size_ % 2 == 1", words)
        self.refuse_in_place(bottom, top)
        self.reach = (size - 1) // 2
        self.across = param.norm_region == caffe_pb2.LRNParameter.ACROSS_CHANNELS
        words = f"k would have no effect: with WITHIN_CHANNEL it is 1. Remove it (layer '{self.name}')"
        check(self.across or param.k == 1, "norm_region == ACROSS_CHANNELS || k == 1", words)
        scalar = self.dtype.type
        self.alpha = scalar(param.alpha / (size if self.across else size * size))
        self.beta = scalar(param.beta)
        self.offset = scalar(param.k if self.across else 1)

    def reshape(self, bottom, top):
        check_planes(self, bottom[0])
        top[0].reshape_like(bottom[0])
        n, c, height, width = bottom[0].shape
        # A window spans rows of an image, seen as (channels, pixels), or rows and columns of a plane.
        self.tables = (n, c, height * width) if self.across else (n * c, height, width)
        block = min(BLOCK, height * width) if self.across else width
        self.scratch = np.empty((numba.get_num_threads(), 4, self.tables[1], block), self.dtype)

    def forward(self, bottom, top):
        lrn_forward(
            bottom[0].flat_data.reshape(self.tables),
            self.reach,
            not self.across,
            self.alpha,
            self.beta,
            self.offset,
            self.scratch,
            top[0].flat_data.reshape(self.tables),
        )

    def backward(self, top, propagate_down, bottom):
        if propagate_down[0]:
            lrn_backward(
                bottom[0].flat_data.reshape(self.tables),
                top[0].flat_diff.reshape(self.tables),
                self.reach,
                not self.across,
                self.alpha,
                self.beta,
                self.offset,
                self.scratch,
                bottom[0].flat_diff.reshape(self.tables),
            )


@parallel_kernel
def lrn_forward(x, reach, both_axes, alpha, beta, offset, scratch, y):
    tables, rows, columns = x.shape
    workers, block = scratch.shape[0], scratch.shape[3]
    blocks = -(-columns // block)
    for worker in numba.prange(workers):
        power = scratch[worker, 2]
        for item in range(worker, tables * blocks, workers):
            table, first = item // blocks, item % blocks * block
            last = min(first + block, columns)
            power_of_energy(x[table], first, last, reach, both_axes, alpha, beta, offset, scratch[worker])
            for r in range(rows):
                values, factors, out = x[table, r, first:last], power[r], y[table, r, first:last]
                for i in range(out.size):
                    out[i] = values[i] * factors[i]


@parallel_kernel
def lrn_backward(x, dy, reach, both_axes, alpha, beta, offset, scratch, dx):
    tables, rows, columns = x.shape
    workers, block = scratch.shape[0], scratch.shape[3]
    blocks = -(-columns // block)
    weight = x.dtype.type(2) * alpha * beta
    for worker in numba.prange(workers):
        terms, energy, power = scratch[worker, 0], scratch[worker, 1], scratch[worker, 2]
        for item in range(worker, tables * blocks, workers):
            table, first = item // blocks, item % blocks * block
            last = min(first + block, columns)
            power_of_energy(x[table], first, last, reach, both_axes, alpha, beta, offset, scratch[worker])
            for r in range(rows):
                values, grads = x[table, r, first:last], dy[table, r, first:last]
                out, factors, energies = terms[r], power[r], energy[r]
                for i in range(values.size):
                    out[i] = grads[i] * values[i] * factors[i] / energies[i]
            window_sum(terms, last - first, reach, both_axes, scratch[worker, 3], energy)
            for r in range(rows):
                values, grads = x[table, r, first:last], dy[table, r, first:last]
                out, factors, sums = dx[table, r, first:last], power[r], energy[r]
                for i in range(out.size):
                    out[i] = grads[i] * factors[i] - weight * values[i] * sums[i]


@kernel
def power_of_energy(x, first, last, reach, both_axes, alpha, beta, offset, scratch):
    """Write s of columns `first` to `last` of a table to scratch[1], and s^-beta to scratch[2]."""
    terms, energy, power = scratch[0], scratch[1], scratch[2]
    width = last - first
    for r in range(x.shape[0]):
        values, out = x[r, first:last], terms[r]
        for i in range(width):
            out[i] = values[i] * values[i]
    window_sum(terms, width, reach, both_axes, scratch[3], energy)
    one = x.dtype.type(1)
    for r in range(x.shape[0]):
        energies, out = energy[r], power[r]
        for i in range(width):
            energies[i] = offset + alpha * energies[i]
        # The usual exponent has square roots, which vectorise, in place of a power, which does not.
        if beta == x.dtype.type(0.75):
            for i in range(width):
                root = math.sqrt(energies[i])
                out[i] = one / (root * math.sqrt(root))
        else:
            for i in range(width):
                out[i] = energies[i] ** -beta


@kernel
def window_sum(a, width, reach, both_axes, spare, out):
    """Sum every element's window: `reach` rows up and down, as many columns to the sides if `both_axes`."""
    rows = a.shape[0]
    for r in range(rows):
        total = spare[r] if both_axes else out[r]
        total[:width] = 0
        for q in range(max(0, r - reach), min(rows, r + reach + 1)):
            row = a[q]
            for i in range(width):
                total[i] += row[i]
    if both_axes:
        for r in range(rows):
            total, row = out[r], spare[r]
            for i in range(width):
                value = a.dtype.type(0)
                for j in range(max(0, i - reach), min(width, i + reach + 1)):
                    value += row[j]
                total[i] = value
