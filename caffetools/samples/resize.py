"""Pictures in another size, as OpenCV's bilinear resize gives them (the original's only way of resizing).

    y[h, w] = x at ((h + 1/2) H / H' - 1/2, (w + 1/2) W / W' - 1/2), interpolated between four pixels

There is no smoothing: a picture that becomes much smaller loses details. Weights are multiples of 1/2048 and
sums are cut as in OpenCV's integer code for bytes, so that the values agree to the bit.

A picture is given as planes, or as words, the form in which Pillow holds colours: a pixel in one uint32, red
in its lowest byte, then green and blue. Words spare a pass over all pixels where few of them are needed.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from caffetools.engine.cpu.jit import kernel

_ONE = 1 << 11
# Where a channel's byte is in an element of the picture: a plane has one channel, words blue, green, red.
_PLANE = np.zeros(1, np.uint32)
_WORD = np.array([16, 8, 0], np.uint32)


def resize(chw: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return the uint8 picture, of shape (channels, H, W), with the shape (channels, height, width).

    The result is contiguous, and not the picture itself unless that has the shape already.
    """
    if chw.shape[1:] == (height, width):
        return chw
    y = np.empty((len(chw), height, width), np.uint8)
    for c, plane in enumerate(np.ascontiguousarray(chw)):
        _resize(plane, _PLANE, y[c : c + 1])
    return y


def resize_words(words: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return the picture, words of shape (H, W), as uint8 planes (3, height, width): blue, green, red."""
    y = np.empty((3, height, width), np.uint8)
    _resize(words, _WORD, y)
    return y


def _resize(x, shifts, y):
    height, width = y.shape[1:]
    if x.shape == (height, width):
        split(x, shifts, y)
    elif x.shape == (2 * height, 2 * width):
        halve(x, shifts, y)
    else:
        interpolate(x, shifts, _neighbours(x.shape[0], height), _neighbours(x.shape[1], width), y)


@lru_cache(256)  # pictures of a set tend to have few sizes
def _neighbours(size: int, new_size: int) -> np.ndarray:
    """Return, for each new position, the two old ones next to it and their weights: uint32 (4, new_size)."""
    # In float32 after the product, as OpenCV does it.
    position = ((np.arange(new_size) + 0.5) * (size / new_size) - 0.5).astype(np.float32)
    first = np.floor(position)
    distance = position - first
    table = np.empty((4, new_size), np.uint32)
    table[0] = np.clip(first, 0, size - 1)
    table[1] = np.clip(first + 1, 0, size - 1)
    table[2] = np.rint((np.float32(1) - distance) * _ONE)
    table[3] = np.rint(distance * _ONE)
    table.setflags(write=False)
    return table


@kernel
def split(x, shifts, y):
    """Take the channels apart."""
    for c in range(shifts.size):
        for h in range(x.shape[0]):
            for w in range(x.shape[1]):
                y[c, h, w] = x[h, w] >> shifts[c] & np.uint32(255)


@kernel
def halve(x, shifts, y):
    """Means of two by two pixels, to which OpenCV turns at exactly half the size."""
    for c in range(shifts.size):
        for h in range(y.shape[1]):
            for w in range(y.shape[2]):
                total = np.uint32(2)
                for i in range(2):
                    for j in range(2):
                        total += x[2 * h + i, 2 * w + j] >> shifts[c] & np.uint32(255)
                y[c, h, w] = total >> np.uint32(2)


@kernel
def interpolate(x, shifts, rows, columns, y):
    """Mix columns of the old rows that are needed, each once, then neighbouring rows of the results.

    Helpers get arrays and indices: counting references to slices would take as long as the arithmetic.
    """
    channels, height, width = y.shape
    first, second = np.empty(width, np.uint32), np.empty(width, np.uint32)
    mixed = np.empty((2, channels, width), np.uint32)
    held = np.full(2, -1, np.int64)  # which old rows are mixed already
    for h in range(height):
        upper = 1 if held[1] == rows[0, h] else 0
        for i in range(2):
            slot = upper if i == 0 else 1 - upper
            if held[slot] != rows[i, h]:
                held[slot] = rows[i, h]
                # Gathered first, so that all arithmetic is on neighbours in memory, in vector instructions.
                gather(x, rows[i, h], columns, 0, first)
                gather(x, rows[i, h], columns, 1, second)
                for c in range(channels):
                    mix_columns(first, second, shifts[c], columns, mixed, slot, c)
        for c in range(channels):
            mix_rows(mixed, upper, c, rows[2, h], rows[3, h], y, h)


@kernel
def gather(x, row, columns, side, y):
    for w in range(y.size):
        y[w] = x[row, columns[side, w]]


@kernel
def mix_columns(first, second, shift, columns, y, slot, c):
    for w in range(first.size):
        a, b = first[w] >> shift & np.uint32(255), second[w] >> shift & np.uint32(255)
        y[slot, c, w] = a * columns[2, w] + b * columns[3, w] >> np.uint32(4)


@kernel
def mix_rows(mixed, upper, c, upper_weight, lower_weight, y, h):
    for w in range(mixed.shape[2]):
        above = mixed[upper, c, w] * upper_weight >> np.uint32(16)
        below = mixed[1 - upper, c, w] * lower_weight >> np.uint32(16)
        y[c, h, w] = above + below + np.uint32(2) >> np.uint32(2)
