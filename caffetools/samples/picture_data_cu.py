"""The data layers that read picture files, on the GPU (see `ahead_cu`)."""

from __future__ import annotations

from caffetools.samples.ahead_cu import Ahead


def setup(layer, bottom, top):
    layer.gpu.ahead = Ahead(len(top), layer.dtype)


def forward(layer, bottom, top):
    layer.sample = layer.gpu.ahead.show(layer.prefetcher, top)
