"""Brightness, contrast, saturation and hue of a picture, as one matrix.

    y = H S (b c x + (1 - c) b m)

b, c and s are factors, 1 leaves a picture as it is. m is the mean of the picture's gray, w . x with
w = (0.114, 0.587, 0.299) for blue, green and red. S = s I + (1 - s) 1 w^T draws colours away from their gray,
or towards it. H turns them about the gray axis of YIQ space by a share of the full circle and keeps w . x.
As neither H nor S changes a gray, y = M x + t with M = b c H S and the gray t = (1 - c) b m. Bytes are
rounded and cut to 0 .. 255 once, at the end.

A picture whose number of channels is not 3 has brightness and contrast; its gray is the mean of its channels.
"""

from __future__ import annotations

from math import cos, pi, sin

import numpy as np

from caffetools.engine.cpu.jit import kernel

#: Shares of blue, green and red in gray.
GRAY = np.array([0.114, 0.587, 0.299])
# From blue, green, red to Y (gray), I and Q, the colour space of American television.
_YIQ = np.array([GRAY, [-0.321, -0.275, 0.596], [0.311, -0.523, 0.212]])
_YIQ[1:] -= _YIQ[1:].mean(axis=1, keepdims=True)  # to the last digit no I and no Q in a gray


def jitter(chw: np.ndarray, brightness: float, contrast: float, saturation=1.0, hue=0.0) -> np.ndarray:
    """Return a picture (channels, height, width), contiguous, uint8 or float32, in other colours.

    brightness, contrast, saturation: factors. hue: part of a full turn, positive from red to green. Other than
    1, 1, 1 and 0 saturation and hue need three channels: blue, green, red.
    """
    if (brightness, contrast, saturation, hue) == (1, 1, 1, 0):
        return chw
    matrix, gray = color_matrix(len(chw), brightness, contrast, saturation, hue)
    y = np.empty_like(chw)
    recolor(chw, matrix, gray, y)
    return y


def color_matrix(channels: int, brightness: float, contrast: float, saturation: float, hue: float):
    """Return M (channels, channels) and the vector v of t = v . (means of the channels), both float32."""
    weights = GRAY if channels == 3 else np.full(channels, 1 / channels)
    matrix = np.eye(channels)
    if saturation != 1:
        matrix = saturation * matrix + (1 - saturation) * weights
    if hue:
        matrix = _turn(hue) @ matrix
    gray = (1 - contrast) * brightness * weights
    return np.float32(brightness * contrast * matrix), np.float32(gray)


def _turn(hue):
    c, s = cos(2 * pi * hue), sin(2 * pi * hue)
    return np.linalg.inv(_YIQ) @ [[1, 0, 0], [0, c, s], [0, -s, c]] @ _YIQ


@kernel
def recolor(x, matrix, gray, y):
    channels, height, width = x.shape
    shift = 0.0
    for c in range(channels):
        if gray[c] != 0:
            total = 0.0
            for h in range(height):
                for w in range(width):
                    total += x[c, h, w]
            shift += gray[c] * (total / (height * width))
    row = np.empty(width, np.float32)
    for to in range(channels):
        for h in range(height):
            row[:] = shift
            for c in range(channels):
                for w in range(width):
                    row[w] += matrix[to, c] * np.float32(x[c, h, w])
            if x.itemsize == 1:
                for w in range(width):
                    row[w] = min(max(np.rint(row[w]), np.float32(0)), np.float32(255))
            for w in range(width):
                y[to, h, w] = x.dtype.type(row[w])
