"""Sums and maxima over the threads of a block, in an order that depends on the size of the block alone.

Each takes the thread's own value and shared memory with an element for each thread
(`cuda.shared.array(THREADS, dtype)`), and gives every thread the result. All threads of the block must call it.
"""

from __future__ import annotations

from numba import cuda

from caffetools.engine.gpu.launch import cuda_device


@cuda_device
def block_sum(value, shared):
    thread = cuda.threadIdx.x
    shared[thread] = value
    cuda.syncthreads()
    half = cuda.blockDim.x // 2
    while half > 0:
        if thread < half:
            shared[thread] += shared[thread + half]
        cuda.syncthreads()
        half //= 2
    total = shared[0]
    # Nobody may write into the memory again before all have read the result.
    cuda.syncthreads()
    return total


@cuda_device
def block_max(value, shared):
    thread = cuda.threadIdx.x
    shared[thread] = value
    cuda.syncthreads()
    half = cuda.blockDim.x // 2
    while half > 0:
        if thread < half and shared[thread + half] > shared[thread]:
            shared[thread] = shared[thread + half]
        cuda.syncthreads()
        half //= 2
    largest = shared[0]
    cuda.syncthreads()
    return largest
