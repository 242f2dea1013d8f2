"""LRN on the GPU; the mathematics is in `lrn`.

The energy s is computed in a pass of its own and kept for the backward pass: here memory is cheaper than computing it
again for every element of a window.
"""

from __future__ import annotations

from numba import cuda

from caffetools.engine.gpu.device import current
from caffetools.engine.gpu.index import quotient
from caffetools.engine.gpu.launch import cuda_kernel, launch
from caffetools.engine.gpu.memory import device_array


def reshape(layer, bottom, top):
    gpu, count = layer.gpu, bottom[0].count
    gpu.energy, gpu.weighted = (device_array(current(), count, layer.dtype) for _ in range(2))
    _, c, height, width = bottom[0].shape
    # A window spans the middle axes of (outer, tall, wide, inner): channels, or rows and columns of a plane.
    gpu.axes = (c, 1, height * width) if layer.across else (height, width, 1)
    gpu.reach = (layer.reach, 0) if layer.across else (layer.reach, layer.reach)


def forward(layer, bottom, top):
    gpu, x = layer.gpu, bottom[0].gpu_data
    launch(window_energy, x.size, x, *gpu.axes, *gpu.reach, layer.alpha, layer.offset, gpu.energy)
    launch(lrn_forward, x.size, x, gpu.energy, layer.beta, top[0].mutable_gpu_data)


def backward(layer, top, propagate_down, bottom):
    if not propagate_down[0]:
        return
    gpu, x, dy = layer.gpu, bottom[0].gpu_data, top[0].gpu_diff
    launch(weighted_gradients, x.size, x, dy, gpu.energy, layer.beta, gpu.weighted)
    factor = layer.dtype.type(2 * layer.alpha * layer.beta)
    launch(
        lrn_backward,
        x.size,
        x,
        dy,
        gpu.energy,
        gpu.weighted,
        *gpu.axes,
        *gpu.reach,
        layer.beta,
        factor,
        bottom[0].mutable_gpu_diff,
    )


@cuda_kernel
def window_energy(x, tall, wide, inner, reach_h, reach_w, alpha, offset, energy):
    """energy = offset + alpha * sum of x^2 over the window around each element."""
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        place = quotient(i, inner)
        line = quotient(place, wide)
        h, w = line - quotient(line, tall) * tall, place - line * wide
        total = x.dtype.type(0)
        for a in range(max(0, h - reach_h), min(tall, h + reach_h + 1)):
            for b in range(max(0, w - reach_w), min(wide, w + reach_w + 1)):
                v = x[i + ((a - h) * wide + b - w) * inner]
                total += v * v
        energy[i] = offset + alpha * total


@cuda_kernel
def lrn_forward(x, energy, beta, y):
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        y[i] = x[i] * energy[i] ** -beta


@cuda_kernel
def weighted_gradients(x, dy, energy, beta, weighted):
    """weighted = dy x s^(-beta - 1), which the windows sum."""
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        weighted[i] = dy[i] * x[i] * energy[i] ** -beta / energy[i]


@cuda_kernel
def lrn_backward(
    x, dy, energy, weighted, tall, wide, inner, reach_h, reach_w, beta, factor, dx
):
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        place = quotient(i, inner)
        line = quotient(place, wide)
        h, w = line - quotient(line, tall) * tall, place - line * wide
        total = x.dtype.type(0)
        for a in range(max(0, h - reach_h), min(tall, h + reach_h + 1)):
            for b in range(max(0, w - reach_w), min(wide, w + reach_w + 1)):
                total += weighted[i + ((a - h) * wide + b - w) * inner]
        dx[i] = dy[i] * energy[i] ** -beta - factor * x[i] * total
