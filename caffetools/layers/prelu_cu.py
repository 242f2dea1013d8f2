"""PReLU on the GPU; the mathematics is in `prelu`."""

from __future__ import annotations

from numba import cuda

from caffetools.engine.gpu.index import middle
from caffetools.engine.gpu.launch import THREADS, cuda_kernel, launch, launch_blocks
from caffetools.engine.gpu.reduce import block_sum
from caffetools.parts.elementwise_cu import Elementwise


def apply(layer, x, y):
    launch(prelu_forward, x.size, x, layer.slope.gpu_data, layer.planes[1], y)


def gradient(layer, x, y, dy, dx):
    launch(prelu_backward, x.size, x, dy, layer.slope.gpu_data, layer.planes[1], dx)


twin = Elementwise(apply, gradient)
reshape, forward = twin.reshape, twin.forward


def backward(layer, top, propagate_down, bottom):
    if layer.param_propagate_down[0]:
        kept = layer.gpu.kept_input
        x = bottom[0].gpu_data if kept is None else kept
        slopes = layer.slope.mutable_gpu_diff
        launch_blocks(
            prelu_backward_slopes, slopes.size, THREADS, x, top[0].gpu_diff, layer.planes[1], slopes
        )
    twin.backward(layer, top, propagate_down, bottom)


@cuda_kernel
def prelu_forward(x, slopes, inner, y):
    zero = x.dtype.type(0)
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        v = x[i]
        # The comparison is written so that a NaN goes through unchanged.
        y[i] = slopes[middle(i, slopes.size, inner)] * v if v < zero else v


@cuda_kernel
def prelu_backward(x, dy, slopes, inner, dx):
    zero = x.dtype.type(0)
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        dx[i] = dy[i] if x[i] > zero else slopes[middle(i, slopes.size, inner)] * dy[i]


@cuda_kernel
def prelu_backward_slopes(x, dy, inner, slopes):
    """Add the gradient of each slope; a block sums the planes of a channel, or all for the one of all channels."""
    shared = cuda.shared.array(THREADS, x.dtype)
    thread, threads = cuda.threadIdx.x, cuda.blockDim.x
    zero = x.dtype.type(0)
    channels = slopes.size
    count = x.size // channels
    for c in range(cuda.blockIdx.x, channels, cuda.gridDim.x):
        own = zero
        for k in range(thread, count, threads):
            i = (k // inner * channels + c) * inner + k % inner
            own += zero if x[i] > zero else dy[i] * x[i]
        total = block_sum(own, shared)
        if thread == 0:
            slopes[c] += total
