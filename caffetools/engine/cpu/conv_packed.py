"""Filters in the order that a product wants them: packed in every call, or kept for the next ones."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from caffetools.engine.aligned import PAGE, aligned_empty
from caffetools.engine.cpu.finish import Finish
from caffetools.engine.cpu.workspace import scratch


@dataclass
class Kept:
    """Packed filters of one layer.

    version: that of the filters; it is for the caller to raise it when they change. arrays: packed filters by the
    product that they are for, each with the version that they were made of.
    """

    version: int = 0
    arrays: dict[PackedProduct, tuple[int, np.ndarray]] = field(default_factory=dict)

    def filters(self, product: PackedProduct, w: np.ndarray) -> np.ndarray:
        """Return the filters w as `product` wants them."""
        version, filters = self.arrays.get(product) or (None, None)
        if version != self.version:
            if filters is None:
                filters = aligned_empty(product.filters_size, product.dtype, PAGE)
            product.pack(w, filters)
            self.arrays[product] = self.version, filters
        return filters


class PackedProduct:
    """The forward product or the data gradient of a convolution, whose filters are packed first.

    filters_size: elements of the packed filters. keeps: whether it is worth while to keep them.
    """

    dtype: np.dtype
    filters_size: int
    keeps = True

    @property
    def kept_bytes(self) -> int:
        """What the packed filters take where they are kept."""
        return self.filters_size * self.dtype.itemsize if self.keeps else 0

    def run(
        self,
        x: np.ndarray,
        w: np.ndarray,
        bias: np.ndarray | None,
        y: np.ndarray,
        finish: Finish | None = None,
        kept: Kept | None = None,
    ) -> None:
        """Compute y from x; for the data gradient, dx from dy.

        kept: where packed filters are taken from, or left for the next time; None packs them for this call alone.
        """
        if kept is None:
            filters = scratch("conv filters", self.filters_size, self.dtype)
            self.pack(w, filters)
        else:
            filters = kept.filters(self, w)
        self.run_packed(x, filters, bias, y, finish)

    def pack(self, w: np.ndarray, filters: np.ndarray) -> None:
        """Write the filters w to the flat `filters` as `run_packed` wants them."""
        raise NotImplementedError

    def run_packed(
        self,
        x: np.ndarray,
        filters: np.ndarray,
        bias: np.ndarray | None,
        y: np.ndarray,
        finish: Finish | None = None,
    ) -> None:
        """Compute y from x by packed filters."""
        raise NotImplementedError
