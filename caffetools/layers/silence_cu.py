"""Silence on the GPU: there is nothing to compute, and the gradient is zero."""

from __future__ import annotations

from caffetools.engine.gpu.device import current
from caffetools.engine.gpu.memory import zero


def forward(layer, bottom, top):
    """Nothing to do."""


def backward(layer, top, propagate_down, bottom):
    for blob, wanted in zip(bottom, propagate_down, strict=True):
        if wanted:
            zero(current(), blob.mutable_gpu_diff)
