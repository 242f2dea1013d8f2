"""Filters and activations as tiles of one picture. NumPy alone: what a pixel shows is decided here.

All tiles of a picture share one range of values, so that they can be compared.
"""

from __future__ import annotations

from math import ceil, sqrt

import numpy as np

#: Filters that read more input channels than these tiles would show are drawn by their norm.
MOST_TILES = 2500
#: Tiles are enlarged to at least this many pixels, so that the gaps between them can be narrow.
LEAST_SIDE = 16
#: What is between tiles, as a share of the tile's larger side.
_GAP = 1 / 10


def signed(values: np.ndarray) -> np.ndarray:
    """Return values in [0, 1], where 1/2 is zero and 0 and 1 are minus and plus the largest magnitude.

    NaN and inf stay NaN: they are drawn as holes.
    """
    values = np.where(np.isfinite(values), values, np.nan).astype(np.float64)
    return 0.5 + values / (2 * (limit(values) or 1))


def limit(values: np.ndarray) -> float:
    """Return the largest magnitude among the finite values, 0 if there are none."""
    finite = values[np.isfinite(values)]
    return float(np.abs(finite).max()) if finite.size else 0.0


def colour_filters(weights: np.ndarray) -> np.ndarray:
    """Return filters (n, 3, h, w) of blue, green and red as pictures (n, h, w, 3) of red, green and blue."""
    return signed(weights)[:, ::-1].transpose(0, 2, 3, 1)


def norms(weights: np.ndarray) -> np.ndarray:
    """Return the L2 norms over the input channels (axis 1) of filters (n, c, h, w): (n, h, w)."""
    return np.sqrt(np.square(weights, dtype=np.float64).sum(axis=1))


def by_channel(weights: np.ndarray) -> tuple[np.ndarray, int]:
    """Return filters (n, c, h, w) as tiles, one for each filter and input channel, and the tiles in a row.

    The longer of the two axes runs to the right: filters, or input channels.
    """
    n, c = weights.shape[:2]
    order = (0, 1, 2, 3) if c > n else (1, 0, 2, 3)
    return weights.transpose(order).reshape(n * c, *weights.shape[2:]), max(n, c)


def grid(tiles: np.ndarray, columns: int = 0) -> np.ndarray:
    """Return tiles (n, h, w) or (n, h, w, 3) side by side, `columns` in a row, with NaN between them.

    Each value becomes a square of pixels. columns: by default as many as make the picture about one and a half
    times as wide as high.
    """
    zoom = ceil(LEAST_SIDE / max(tiles.shape[1:3]))
    tiles = tiles.repeat(zoom, axis=1).repeat(zoom, axis=2)
    count, height, width = tiles.shape[:3]
    columns = columns or min(count, max(1, ceil(sqrt(1.5 * count * height / width))))
    rows = ceil(count / columns)
    gap = max(1, round(max(height, width) * _GAP))
    shape = rows * (height + gap) - gap, columns * (width + gap) - gap, *tiles.shape[3:]
    picture = np.full(shape, np.nan)
    for index, tile in enumerate(tiles):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        picture[top : top + height, left : left + width] = tile
    return picture
