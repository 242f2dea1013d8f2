"""Encoded pictures to arrays as Caffe has them: uint8, channels x height x width, blue, green, red.

Pictures are decoded as OpenCV did it for the original: 16 bits are cut to 8; where colour or gray is asked
for, alpha is dropped and the camera's orientation mark is obeyed.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from caffetools import glog

if TYPE_CHECKING:
    from PIL.Image import Image

#: Red, green and blue in OpenCV's gray, and what is added before the lower bits are dropped. PNG files are
#: made gray by libpng, which does not round.
_GRAY = np.array([4899, 9617, 1868], np.uint32), 1 << 13, 14
_PNG_GRAY = np.array([9797, 19234, 3737], np.uint32), 0, 15


def decode(data: bytes, color: bool | None = None) -> np.ndarray:
    """Decode a PNG, JPEG, ... file.

    :param color: True for three channels, False for one (gray), None for as many as the picture has
    :return: uint8 array, C x H x W, a copy of its own, contiguous
    :raises FatalError: if it is no picture that can be read
    """
    return to_chw(load(data, color), color)


def load(data: bytes, color: bool | None = None) -> Image:
    """Decode a file to Pillow's form, for `to_chw` or, if its mode is "RGB", for `pillow_words.words`.

    :raises FatalError: if it is no picture that can be read
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data)) as picture:
            if color is False and picture.format == "JPEG":
                picture.draft("L", picture.size)  # the luma that is stored, without a way over RGB
            picture.load()
            if color is not None:
                ImageOps.exif_transpose(picture, in_place=True)
            return picture
    except UnidentifiedImageError:
        glog.fatal("Could not decode datum: it is no picture of a known format")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as err:
        glog.fatal(f"Could not decode datum: {err}")


def shape_of(data: bytes) -> tuple[int, int, int]:
    """Channels, height and width of what `decode` would return for a file, by its header alone.

    :raises FatalError: if it is no picture of a known format
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as picture:
            return _CHANNELS.get(picture.mode, 3), picture.height, picture.width
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as err:
        glog.fatal(f"Could not decode datum: {err}")


def to_chw(picture: Image, color: bool | None) -> np.ndarray:
    """The pixels of a picture, as `decode` returns them."""
    pixels = _PIXELS.get(picture.mode, _rgb)(picture)  # H x W, H x W x RGB, or H x W x RGBA
    if pixels.ndim == 2:
        planes = pixels[np.newaxis]
        return np.repeat(planes, 3, axis=0) if color else np.ascontiguousarray(planes)
    if color is False:
        weights, half, bits = _PNG_GRAY if picture.format == "PNG" else _GRAY
        return ((pixels[..., :3] @ weights + half) >> bits).astype(np.uint8)[np.newaxis]
    order = [2, 1, 0] if color else [2, 1, 0, 3][: pixels.shape[2]]
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[order])


def _as_it_is(picture: Image) -> np.ndarray:
    return np.asarray(picture)


def _rgb(picture: Image) -> np.ndarray:
    return np.asarray(picture.convert("RGB"))


def _rgba(picture: Image) -> np.ndarray:
    return np.asarray(picture.convert("RGBA"))


def _gray(picture: Image) -> np.ndarray:
    return np.asarray(picture.convert("L"))


def _gray16(picture: Image) -> np.ndarray:
    """The upper 8 of 16 bits; Pillow holds such pictures as 16 or 32-bit integers."""
    return (np.asarray(picture).astype(np.uint32) >> 8).astype(np.uint8)


def _cmyk(picture: Image) -> np.ndarray:
    """OpenCV's conversion: no colour profile, integer arithmetic."""
    cmyk = 255 - np.asarray(picture).astype(np.int32)
    key = cmyk[..., 3:]
    return (key - ((255 - cmyk[..., :3]) * key >> 8)).astype(np.uint8)


_PIXELS: dict[str, Callable[[Image], np.ndarray]] = {
    "1": _gray,
    "L": _as_it_is,
    "LA": _rgba,
    "I": _gray16,
    "I;16": _gray16,
    "I;16B": _gray16,
    "RGB": _as_it_is,
    "RGBA": _as_it_is,
    "PA": _rgba,
    "CMYK": _cmyk,
}
#: Channels of the modes that do not become blue, green and red.
_CHANNELS = {"1": 1, "L": 1, "I": 1, "I;16": 1, "I;16B": 1, "LA": 4, "RGBA": 4, "PA": 4}
