"""Pictures turned about their centre.

    y(p) = x(c + R (p - c))      R turns by `degrees`, c is the centre; x is interpolated between four pixels

The size stays. What comes in from outside is the picture's mirror image, so that there are no dark corners,
whatever the mean. Turned by 90 degrees a square picture equals `numpy.rot90`: positive is counter-clockwise.
"""

from __future__ import annotations

from math import cos, radians, sin

import numpy as np

from caffetools.engine.cpu.jit import kernel


def rotate(chw: np.ndarray, degrees: float) -> np.ndarray:
    """Return a picture (channels, height, width), contiguous, uint8 or float32, turned counter-clockwise."""
    if degrees % 360 == 0:
        return chw
    y = np.empty_like(chw)
    turn(chw, cos(radians(degrees)), sin(radians(degrees)), y)
    return y


@kernel
def turn(x, cosine, sine, y):
    channels, height, width = x.shape
    middle_h, middle_w = (height - 1) / 2, (width - 1) / 2
    half = 0.5 if x.itemsize == 1 else 0.0  # integers are rounded
    for h in range(height):
        for w in range(width):
            from_h = middle_h + cosine * (h - middle_h) + sine * (w - middle_w)
            from_w = middle_w - sine * (h - middle_h) + cosine * (w - middle_w)
            above, left = np.floor(from_h), np.floor(from_w)
            down, right = from_h - above, from_w - left
            h0, h1 = reflected(int(above), height), reflected(int(above) + 1, height)
            w0, w1 = reflected(int(left), width), reflected(int(left) + 1, width)
            for c in range(channels):
                upper = x[c, h0, w0] * (1 - right) + x[c, h0, w1] * right
                lower = x[c, h1, w0] * (1 - right) + x[c, h1, w1] * right
                y[c, h, w] = x.dtype.type(upper * (1 - down) + lower * down + half)


@kernel
def reflected(i, size):
    """Return the pixel of 0 .. size - 1 that position i shows: ... 1 0 | 0 1 2 ... size - 1 | size - 1 ..."""
    if 0 <= i < size:  # almost always; the division below would take most of the time
        return i
    i %= 2 * size
    return min(i, 2 * size - 1 - i)
