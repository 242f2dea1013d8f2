"""Upsample on the GPU; the mathematics is in `upsample`. An index that is none is told with a lag."""

from __future__ import annotations

import numpy as np
from numba import cuda

from caffetools.engine.gpu.device import current
from caffetools.engine.gpu.lag import Lagged
from caffetools.engine.gpu.launch import THREADS, cuda_kernel, launch, launch_blocks
from caffetools.engine.gpu.memory import device_array, zero
from caffetools.engine.gpu.reduce import block_max


def setup(layer, bottom, top):
    if not layer.by_index:
        return
    gpu = layer.gpu
    gpu.wrong = device_array(current(), 2, np.float64)
    zero(current(), gpu.wrong)

    def look(values):
        if values[0]:
            layer.refuse_index(int(values[0]) - 1, values[1])

    gpu.wrong_index = Lagged(current(), gpu.wrong, look)


def reshape(layer, bottom, top):
    if layer.by_index:
        layer.gpu.sources = device_array(current(), top[0].count, np.int32)


def forward(layer, bottom, top):
    gpu, x, y = layer.gpu, bottom[0].gpu_data, top[0].mutable_gpu_data
    if not layer.by_index:
        _, _, tall, width, wide = layer.repeated
        launch(repeat, y.size, x, width, tall, wide, y)
        return
    index, plane, top_plane = bottom[1].gpu_data, layer.planes[1], layer.top_planes[1]
    launch(fill_sources, y.size, gpu.sources)
    launch(find_sources, x.size, index, plane, top_plane, gpu.sources)
    launch(from_sources, y.size, x, gpu.sources, y)
    launch_blocks(find_wrong, 1, THREADS, index, top_plane, gpu.wrong)
    gpu.wrong_index.send()


def backward(layer, top, propagate_down, bottom):
    if any(propagate_down[1:]):
        layer.backward(top, propagate_down, bottom)  # which refuses
    if not propagate_down[0]:
        return
    dy, dx = top[0].gpu_diff, bottom[0].mutable_gpu_diff
    if layer.by_index:
        launch(pick, dx.size, dy, bottom[1].gpu_data, layer.planes[1], layer.top_planes[1], dx)
    else:
        _, _, tall, width, wide = layer.repeated
        launch(sum_repeated, dx.size, dy, width, tall, wide, dx)


@cuda_kernel
def repeat(x, width, tall, wide, y):
    row = width * wide
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        y[i] = x[i // row // tall * width + i % row // wide]


@cuda_kernel
def sum_repeated(dy, width, tall, wide, dx):
    row = width * wide
    for i in range(cuda.grid(1), dx.size, cuda.gridsize(1)):
        first = i // width * tall * row + i % width * wide
        total = dy.dtype.type(0)
        for r in range(tall):
            for c in range(wide):
                total += dy[first + r * row + c]
        dx[i] = total


@cuda_kernel
def fill_sources(sources):
    for i in range(cuda.grid(1), sources.size, cuda.gridsize(1)):
        sources[i] = -1


@cuda_kernel
def find_sources(index, plane, top_plane, sources):
    """sources_j = the last element that goes to place j."""
    for i in range(cuda.grid(1), index.size, cuda.gridsize(1)):
        where = index[i]
        if where > index.dtype.type(-1) and where < index.dtype.type(top_plane):
            cuda.atomic.max(sources, i // plane * top_plane + int(where), i)


@cuda_kernel
def from_sources(x, sources, y):
    zero = x.dtype.type(0)
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        source = sources[i]
        y[i] = x[source] if source >= 0 else zero


@cuda_kernel
def pick(dy, index, plane, top_plane, dx):
    zero, below, end = dy.dtype.type(0), index.dtype.type(-1), index.dtype.type(top_plane)
    for i in range(cuda.grid(1), dx.size, cuda.gridsize(1)):
        where = index[i]
        dx[i] = dy[i // plane * top_plane + int(where)] if where > below and where < end else zero


@cuda_kernel
def find_wrong(index, top_plane, wrong):
    """wrong: (1 + position, value) of an index that is none, or 0."""
    shared = cuda.shared.array(THREADS, np.float64)
    if cuda.blockIdx.x == 0:
        bad = np.float64(0)
        for i in range(cuda.threadIdx.x, index.size, cuda.blockDim.x):
            if not (index[i] > index.dtype.type(-1) and index[i] < index.dtype.type(top_plane)):
                bad = np.float64(i + 1)
        bad = block_max(bad, shared)
        if cuda.threadIdx.x == 0:
            wrong[0] = bad
            if bad > 0:
                wrong[1] = index[int(bad) - 1]
