"""Pictures in another size, as OpenCV's bilinear resize gives them (the original's only way of resizing).

    y[h, w] = x at ((h + 1/2) H / H' - 1/2, (w + 1/2) W / W' - 1/2), interpolated between four pixels

There is no smoothing: a picture that becomes much smaller loses details. Weights are multiples of 1/2048 and
sums are cut as in OpenCV's integer code for bytes, so that the values agree to the bit.
"""

from __future__ import annotations

import numpy as np

_ONE = 1 << 11


def resize(chw: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return the uint8 picture, of shape (channels, H, W), with the shape (channels, height, width)."""
    if chw.shape[1:] == (height, width):
        return chw
    if chw.shape[1:] == (2 * height, 2 * width):
        return _halve(chw)
    top, bottom, top_weight, bottom_weight = _neighbours(chw.shape[1], height)
    left, right, left_weight, right_weight = _neighbours(chw.shape[2], width)
    # Columns first, and only of the rows that are needed.
    rows, place = np.unique(np.concatenate([top, bottom]), return_inverse=True)
    x = chw[:, rows].astype(np.int32)
    x = x[:, :, left] * left_weight + x[:, :, right] * right_weight
    x >>= 4
    upper = x[:, place[:height]] * top_weight[:, np.newaxis] >> 16
    lower = x[:, place[height:]] * bottom_weight[:, np.newaxis] >> 16
    return (upper + lower + 2 >> 2).astype(np.uint8)


def _neighbours(size: int, new_size: int):
    """Return for each new position the two old ones next to it, and their weights."""
    # In float32 after the product, as OpenCV does it.
    position = ((np.arange(new_size) + 0.5) * (size / new_size) - 0.5).astype(np.float32)
    first = np.floor(position).astype(np.int64)
    distance = position - first.astype(np.float32)
    first_weight = np.rint((np.float32(1) - distance) * _ONE).astype(np.int32)
    second_weight = np.rint(distance * _ONE).astype(np.int32)
    return np.clip(first, 0, size - 1), np.clip(first + 1, 0, size - 1), first_weight, second_weight


def _halve(chw):
    """Means of two by two pixels, to which OpenCV turns at exactly half the size."""
    x = chw.astype(np.uint16)
    x = x[:, ::2] + x[:, 1::2]
    return (x[:, :, ::2] + x[:, :, 1::2] + 2 >> 2).astype(np.uint8)
