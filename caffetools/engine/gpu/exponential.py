"""Functions of exponentials for kernels, written so that nothing overflows."""

from __future__ import annotations

import math

from caffetools.engine.gpu.launch import cuda_device


@cuda_device
def sigmoid(x):
    """1 / (1 + e^-x)"""
    one = type(x)(1)
    e = math.exp(-abs(x))
    return (e if x < type(x)(0) else one) / (one + e)
