"""Encoded pictures to arrays of a given size, without a way over all pixels where few of them are needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from caffetools.formats import image
from caffetools.formats.pillow_words import words
from caffetools.samples.resize import resize, resize_words

if TYPE_CHECKING:
    from PIL.Image import Image


def decode(data: bytes, color: bool, height: int = 0, width: int = 0) -> np.ndarray:
    """Decode a PNG, JPEG, ... file and resize it, as OpenCV does both.

    color: True for three channels (blue, green, red), False for one (gray). height, width: the size wanted;
    the picture's own unless both are positive.
    Returns a uint8 array (channels, height, width).
    Errors: FatalError if it is no picture that can be read.
    """
    picture = image.load(data, color)
    if not (height > 0 and width > 0):
        height, width = picture.height, picture.width
    return resized(picture, color, height, width)


def resized(picture: Image, color: bool, height: int, width: int) -> np.ndarray:
    """Return what `decode` returns of a picture that `image.load` has decoded."""
    if color and picture.mode == "RGB":
        return resize_words(words(picture), height, width)
    return resize(image.to_chw(picture, color), height, width)
