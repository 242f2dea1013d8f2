"""Tile on the GPU; the mathematics is in `tile`."""

from __future__ import annotations

from numba import cuda

from caffetools.engine.gpu.launch import cuda_kernel, launch


def forward(layer, bottom, top):
    y = top[0].mutable_gpu_data
    launch(tile_forward, y.size, bottom[0].gpu_data, layer.inner, layer.tiles, y)


def backward(layer, top, propagate_down, bottom):
    if propagate_down[0]:
        dx = bottom[0].mutable_gpu_diff
        launch(tile_backward, dx.size, top[0].gpu_diff, layer.inner, layer.tiles, dx)


@cuda_kernel
def tile_forward(x, inner, tiles, y):
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        y[i] = x[i // (inner * tiles) * inner + i % inner]


@cuda_kernel
def tile_backward(dy, inner, tiles, dx):
    for i in range(cuda.grid(1), dx.size, cuda.gridsize(1)):
        first = i // inner * inner * tiles + i % inner
        total = dy.dtype.type(0)
        for tile in range(tiles):
            total += dy[first + tile * inner]
        dx[i] = total
