"""AnnotatedData on the GPU: batches are copied there ahead, as those of Data."""

from __future__ import annotations

from caffetools.layers.data_cu import forward, setup

__all__ = ["forward", "setup"]
