"""The batches that a data layer's threads fill: arrays on the host, page-locked where a GPU will fetch them."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from caffetools.blob import Blob
from caffetools.layer import Context

#: Batches more on a GPU: their copies to the device may still be under way.
IN_FLIGHT = 3


class Batch:
    """What the tops will show, and where in the run the next batch begins, in its layer's terms."""

    def __init__(self, dtype):
        self.data = Blob((), dtype)
        self.label = Blob((), dtype)
        self.end: Any = None

    @property
    def blobs(self) -> tuple[Blob, Blob]:
        return self.data, self.label


def make_batches(context: Context, ahead: int, shapes: Sequence[Sequence[int]]) -> list[Batch]:
    """Return the batches of a layer that makes `ahead` of them while the net has one in hand.

    shapes: of the first batch's data and labels; larger ones will lie in ordinary memory, because threads that fill
    batches have nothing to do with the device.
    """
    engine = context.engine
    batches = [Batch(context.dtype) for _ in range(ahead + 1 + (IN_FLIGHT if engine else 0))]
    if engine is not None:
        for batch in batches:
            for blob, shape in zip(batch.blobs, shapes, strict=True):
                blob.data_storage.array = engine.host_array(prod(shape), context.dtype)
    return batches
