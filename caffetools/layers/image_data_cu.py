"""ImageData on the GPU: batches are copied there ahead."""

from __future__ import annotations

from caffetools.samples.picture_data_cu import forward, setup

__all__ = ["forward", "setup"]
