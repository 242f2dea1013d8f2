"""SSD's changes of colour: brightness, contrast, saturation and hue at random, and channels in another order.

Saturation and hue are those of HSV. The steps are OpenCV's, whose results are bytes after each of them; between bytes
and HSV nothing is rounded here.
"""

from __future__ import annotations

import numpy as np

from caffetools.engine.cpu.jit import kernel
from caffetools.glog import check, check_eq
from caffetools.proto import caffe_pb2


def check_distortion(param: caffe_pb2.DistortionParameter, where: str) -> None:
    """Refuse ranges that are none. Errors: FatalError."""
    for name in ("contrast", "saturation"):
        low, high = getattr(param, f"{name}_lower"), getattr(param, f"{name}_upper")
        check(0 <= low <= high, f"{name}_upper >= {name}_lower", f"factors are drawn from {low:g} to {high:g} {where}")
    for name in ("brightness", "hue"):
        check(getattr(param, f"{name}_delta") >= 0, f"{name}_delta >= 0", f"{name}_delta must be non-negative. {where}")


def distort(picture: np.ndarray, param: caffe_pb2.DistortionParameter, draws) -> np.ndarray:
    """Return a picture in other colours.

    picture: uint8 (channels, height, width), blue, green and red. draws: has `uniform` and `happens`.
    Errors: FatalError for one that is not in colour, where saturation or hue may change.
    """
    contrast_last = not draws.happens(0.5)
    picture = _linear(picture, 1, _delta(param, "brightness", draws))
    if not contrast_last:
        picture = _linear(picture, _factor(param, "contrast", draws), 0)
    saturation, hue = _factor(param, "saturation", draws), _delta(param, "hue", draws)
    if param.saturation_prob or param.hue_prob:
        check_eq(len(picture), 3, "channels == 3", "saturation and hue are those of pictures in colour")
    if saturation != 1 or hue:
        picture = np.ascontiguousarray(picture)
        recolored = np.empty_like(picture)
        turn(picture, np.float32(saturation), np.float32(hue * 2), recolored)
        picture = recolored
    if contrast_last:
        picture = _linear(picture, _factor(param, "contrast", draws), 0)
    if draws.happens(param.random_order_prob):
        order = sorted(range(len(picture)), key=lambda _: draws.uniform())
        picture = np.ascontiguousarray(picture[order])
    return picture


def _delta(param, name, draws):
    size = getattr(param, f"{name}_delta")
    happens, value = draws.happens(getattr(param, f"{name}_prob")), draws.uniform(-size, size)
    return value if happens else 0.0


def _factor(param, name, draws):
    low, high = getattr(param, f"{name}_lower"), getattr(param, f"{name}_upper")
    happens, value = draws.happens(getattr(param, f"{name}_prob")), draws.uniform(low, high)
    return value if happens else 1.0


def _linear(picture, factor, summand):
    if factor == 1 and summand == 0:
        return picture
    table = np.rint(np.arange(256) * factor + summand).clip(0, 255).astype(np.uint8)
    return table[picture]


@kernel
def turn(x, saturation, hue, y):
    """Multiply the saturation of a picture (3, height, width) and turn its hue by an angle in degrees."""
    zero, one, six = np.float32(0), np.float32(1), np.float32(6)
    # Of six sectors, from -1 to 5 that red, green and blue span; less than a turn, so that no division is needed.
    turned = (hue / np.float32(60)) % six
    for h in range(x.shape[1]):
        for w in range(x.shape[2]):
            b, g, r = np.float32(x[0, h, w]), np.float32(x[1, h, w]), np.float32(x[2, h, w])
            value = max(b, g, r)
            chroma = value - min(b, g, r)
            sector = zero
            if chroma > zero:
                if value == r:
                    sector = (g - b) / chroma
                elif value == g:
                    sector = np.float32(2) + (b - r) / chroma
                else:
                    sector = np.float32(4) + (r - g) / chroma
            sector += turned
            if sector < zero:
                sector += six
            elif sector >= six:
                sector -= six
            chroma = min(chroma * saturation, value)
            for c in range(3):
                # Red is full up to 1 and from 5 on, green around 2, blue around 4.
                k = np.float32(1 + 2 * c) + sector
                if k >= six:
                    k -= six
                share = max(zero, min(k, np.float32(4) - k, one))
                y[c, h, w] = np.uint8(np.rint(value - chroma * share))
