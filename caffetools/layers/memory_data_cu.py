"""MemoryData on the GPU: batches are made in page-locked memory and copied beside the computation."""

from __future__ import annotations

from caffetools.samples.feed_cu import Staging


def setup(layer, bottom, top):
    layer.gpu.staging = Staging(top, layer.dtype)


def forward(layer, bottom, top):
    layer.gpu.staging.forward(layer, bottom, top)
