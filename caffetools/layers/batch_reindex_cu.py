"""BatchReindex on the GPU; the mathematics is in `batch_reindex`."""

from __future__ import annotations

from numba import cuda

from caffetools.engine.gpu.launch import cuda_kernel, launch


def forward(layer, bottom, top):
    # The indices are checked where they are, on the host: they come from there.
    layer.check_indices(bottom[1].cpu_data, bottom[0].shape[0])
    y = top[0].mutable_gpu_data
    launch(take_items, y.size, bottom[0].gpu_data, bottom[1].gpu_data, bottom[0].count_from(1), y)


def backward(layer, top, propagate_down, bottom):
    if propagate_down[1]:
        layer.backward(top, propagate_down, bottom)  # which refuses
    if propagate_down[0]:
        dy, dx = top[0].gpu_diff, bottom[0].mutable_gpu_diff
        launch(add_items, dx.size, dy, bottom[1].gpu_data, bottom[0].count_from(1), dx)


@cuda_kernel
def take_items(x, indices, size, y):
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        y[i] = x[int(indices[i // size]) * size + i % size]


@cuda_kernel
def add_items(dy, indices, size, dx):
    """Add every item of dy to the one it came from, in their order."""
    for i in range(cuda.grid(1), dx.size, cuda.gridsize(1)):
        item, place = i // size, i % size
        total = dy.dtype.type(0)
        for k in range(indices.size):
            if int(indices[k]) == item:
                total += dy[k * size + place]
        dx[i] = total
