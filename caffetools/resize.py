"""Pictures in another size, as OpenCV's bilinear resize gives them (the original's only way of resizing).

    y[h, w] = x at ((h + 1/2) H / H' - 1/2, (w + 1/2) W / W' - 1/2), interpolated between four pixels

There is no smoothing: a picture that becomes much smaller loses details. Weights are multiples of 1/2048 and
sums are cut as in OpenCV's integer code for bytes, so that the values agree to the bit.
"""

from __future__ import annotations

import numpy as np

from caffetools.engine.cpu.jit import kernel

_ONE = 1 << 11


def resize(chw: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return the uint8 picture, of shape (channels, H, W), with the shape (channels, height, width).

    The result is contiguous, and not the picture itself unless that has the shape already.
    """
    if chw.shape[1:] == (height, width):
        return chw
    if chw.shape[1:] == (2 * height, 2 * width):
        return _halved(chw)
    rows = _neighbours(chw.shape[1], height)
    columns = _neighbours(chw.shape[2], width)
    y = np.empty((len(chw), height, width), np.uint8)
    interpolate(np.ascontiguousarray(chw), rows, columns, y)
    return y


def _neighbours(size: int, new_size: int) -> np.ndarray:
    """Return, for each new position, the two old ones next to it and their weights: int32 (new_size, 4)."""
    # In float32 after the product, as OpenCV does it.
    position = ((np.arange(new_size) + 0.5) * (size / new_size) - 0.5).astype(np.float32)
    first = np.floor(position)
    distance = position - first
    table = np.empty((new_size, 4), np.int32)
    table[:, 0] = np.clip(first, 0, size - 1)
    table[:, 1] = np.clip(first + 1, 0, size - 1)
    table[:, 2] = np.rint((np.float32(1) - distance) * _ONE)
    table[:, 3] = np.rint(distance * _ONE)
    return table


def _halved(chw):
    """Means of two by two pixels, to which OpenCV turns at exactly half the size."""
    x = chw.astype(np.uint16)
    x = x[:, ::2] + x[:, 1::2]
    return (x[:, :, ::2] + x[:, :, 1::2] + 2 >> 2).astype(np.uint8)


@kernel
def interpolate(x, rows, columns, y):
    channels, height, width = y.shape
    for c in range(channels):
        for h in range(height):
            upper, lower = x[c, rows[h, 0]], x[c, rows[h, 1]]
            upper_weight, lower_weight = rows[h, 2], rows[h, 3]
            for w in range(width):
                left, right = columns[w, 0], columns[w, 1]
                left_weight, right_weight = columns[w, 2], columns[w, 3]
                above = (upper[left] * left_weight + upper[right] * right_weight) >> 4
                below = (lower[left] * left_weight + lower[right] * right_weight) >> 4
                value = (above * upper_weight >> 16) + (below * lower_weight >> 16)
                y[c, h, w] = (value + 2) >> 2
