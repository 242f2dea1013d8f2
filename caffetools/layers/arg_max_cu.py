"""ArgMax on the GPU; the mathematics is in `arg_max`. A thread searches at each position."""

from __future__ import annotations

from numba import cuda

from caffetools.engine.gpu.device import current
from caffetools.engine.gpu.launch import cuda_kernel, launch
from caffetools.engine.gpu.memory import device_array


def reshape(layer, bottom, top):
    # The lists that do not go to the top.
    layer.gpu.rest = device_array(current(), layer.outer * layer.top_k * layer.inner, layer.dtype)


def forward(layer, bottom, top):
    x, y, rest = bottom[0].gpu_data, top[0].mutable_gpu_data, layer.gpu.rest
    length = layer.top_k * layer.inner
    # Where the indices and the values of an item begin, and how far apart two items are.
    indices, values = (y, 0, length), (rest, 0, length)
    if layer.out_max_val:
        both = layer.axis is None
        indices = (y, 0, 2 * length) if both else (rest, 0, length)
        values = (y, length, 2 * length) if both else (y, 0, length)
    positions = layer.outer * layer.inner
    launch(largest, positions, x, positions, layer.classes, layer.inner, layer.top_k, *indices, *values)


@cuda_kernel
def largest(
    x, positions, classes, inner, top_k, indices, first_index, index_step, values, first_value, value_step
):
    """Insert every value into a short list that is kept in order, behind the larger ones."""
    for item in range(cuda.grid(1), positions, cuda.gridsize(1)):
        outer, column = item // inner, item % inner
        own_index = first_index + outer * index_step + column
        own_value = first_value + outer * value_step + column
        length = 0
        for c in range(classes):
            v = x[(outer * classes + c) * inner + column]
            place = length
            while place > 0 and v >= values[own_value + (place - 1) * inner]:
                place -= 1
            if place == top_k:
                continue
            length = min(length + 1, top_k)
            for k in range(length - 1 - place):
                j = length - 1 - k
                values[own_value + j * inner] = values[own_value + (j - 1) * inner]
                indices[own_index + j * inner] = indices[own_index + (j - 1) * inner]
            values[own_value + place * inner] = v
            indices[own_index + place * inner] = c
