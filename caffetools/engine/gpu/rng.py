"""Random numbers on the device: the same numbers as `engine.cpu.rng` for the same key and index.

The sequence is that of SplitMix64, read at any position, so that a number depends on its key and index alone.
"""

from __future__ import annotations

import numpy as np
from numba import cuda

from caffetools.engine.cpu.rng import GOLDEN
from caffetools.engine.gpu.launch import cuda_device, cuda_kernel

_ONE = np.uint64(1)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31, _S40 = (np.uint64(s) for s in (30, 27, 31, 40))
_UNIT = np.float32(2.0**-24)


@cuda_device
def random_bits(key, index):
    """Return number `index` (uint64) of the stream `key` (uint64) as 64 random bits."""
    z = key + (index + _ONE) * GOLDEN
    z = (z ^ (z >> _S30)) * _MIX1
    z = (z ^ (z >> _S27)) * _MIX2
    return z ^ (z >> _S31)


@cuda_device
def random_uniform(key, index):
    """Return number `index` of the stream `key` as a float32 in [0, 1) with 24 random bits."""
    return np.float32(random_bits(key, index) >> _S40) * _UNIT


@cuda_kernel
def fill_uniform(key, start, y):
    """y_i = number start + i of the stream, in [0, 1)."""
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        y[i] = random_uniform(key, start + np.uint64(i))
