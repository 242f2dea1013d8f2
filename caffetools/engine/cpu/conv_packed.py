"""Products of convolutions whose filters are packed first."""

from __future__ import annotations

import numpy as np

from caffetools.engine.cpu.finish import Finish
from caffetools.engine.cpu.kept import Kept, Packing


class PackedProduct(Packing):
    """The forward product or the data gradient of a convolution, whose filters are packed first.

    keeps: whether it is worth while to keep them.
    """

    keeps = True

    def run(
        self,
        x: np.ndarray,
        w: np.ndarray,
        bias: np.ndarray | None,
        y: np.ndarray,
        finish: Finish | None = None,
        kept: Kept | None = None,
        channel: int = 0,
    ) -> None:
        """Compute y from x; for the data gradient, dx from dy.

        kept: where packed filters are taken from, or left for the next time; None packs them for this call alone.
        channel: the one of y that gets the first result; y may have more channels than there are results.
        """
        self.run_packed(x, self.packed(w, kept, "conv filters"), bias, y, finish, channel)

    def run_packed(
        self,
        x: np.ndarray,
        filters: np.ndarray,
        bias: np.ndarray | None,
        y: np.ndarray,
        finish: Finish | None = None,
        channel: int = 0,
    ) -> None:
        """Compute y from x by packed filters."""
        raise NotImplementedError
