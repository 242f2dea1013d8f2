"""Data on the GPU: batches are copied there ahead."""

from __future__ import annotations

from caffetools.samples.ahead_cu import Ahead


def setup(layer, bottom, top):
    layer.gpu.ahead = Ahead(len(top), layer.dtype)


def forward(layer, bottom, top):
    layer.position = layer.gpu.ahead.show(layer.prefetcher, top)
