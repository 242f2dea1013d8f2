"""Weights in the order that a product wants them: packed in every pass, or kept for the next ones."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from caffetools.engine.aligned import PAGE, aligned_empty
from caffetools.engine.cpu.workspace import scratch


class Packing:
    """Puts weights in the order that a product wants. packed_size: elements that they take then."""

    dtype: np.dtype
    packed_size: int

    def pack(self, w: np.ndarray, packed: np.ndarray) -> None:
        """Write the weights w to the flat array `packed`."""
        raise NotImplementedError

    def packed(self, w: np.ndarray, kept: Kept | None, name: str) -> np.ndarray:
        """Return the weights, packed: those that are kept, or if `kept` is None for this pass alone, in the scratch
        memory of this name."""
        if kept is not None:
            return kept.packed(self, w)
        packed = scratch(name, self.packed_size, self.dtype)
        self.pack(w, packed)
        return packed


@dataclass
class Kept:
    """What is kept of one array of weights.

    version: that of the weights; it is for the caller to raise it when they change. arrays: packed weights by the
    packing that they are for, each with the version that they were made of.
    """

    version: int = 0
    arrays: dict[Packing, tuple[int, np.ndarray]] = field(default_factory=dict)

    def packed(self, packing: Packing, w: np.ndarray) -> np.ndarray:
        """Return the weights w, packed."""
        version, packed = self.arrays.get(packing) or (None, None)
        if version != self.version:
            if packed is None:
                packed = aligned_empty(packing.packed_size, packing.dtype, PAGE)
            packing.pack(w, packed)
            self.arrays[packing] = self.version, packed
        return packed
