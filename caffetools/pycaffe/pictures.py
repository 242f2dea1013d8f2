"""Pictures as arrays of floats, height x width x channels, red, green, blue."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

#: Red, green and blue in gray: the luminance of Rec. 709.
_LUMA = np.array([0.2125, 0.7154, 0.0721])


def load_image(filename: str | os.PathLike, color: bool = True) -> np.ndarray:
    """Return a picture file as float32 between 0 and 1: (H, W, 3), or (H, W, 1) without `color`.

    Alpha is dropped from colours; what becomes gray lies on white. 16 bits are kept. The camera's orientation
    mark is not obeyed (the data layers do). Errors: OSError for a file that cannot be read or is no picture.
    """
    from PIL import Image

    with Image.open(filename) as picture:
        pixels = _pixels(picture)
    if pixels.ndim == 2:
        pixels = pixels[:, :, np.newaxis]
        return np.repeat(pixels, 3, axis=2) if color else pixels
    if color:
        return np.ascontiguousarray(pixels[:, :, :3])
    gray = pixels[:, :, :3] @ _LUMA
    if pixels.shape[2] == 4:
        alpha = pixels[:, :, 3]
        gray = gray * alpha + (1 - alpha)
    return gray[:, :, np.newaxis].astype(np.float32)


def oversample(images: Sequence[np.ndarray], crop_dims: Sequence[int]) -> np.ndarray:
    """Return ten crops of each picture: corners and centre, then the same mirrored.

    images: of one shape (H, W, channels). crop_dims: height and width. Return float32
    (10 n, height, width, channels): of each picture top left, top right, bottom left, bottom right, centre.
    Errors: ValueError for crops that are larger than the pictures.
    """
    height, width = (int(size) for size in crop_dims)
    image_height, image_width, channels = images[0].shape
    down, right = image_height - height, image_width - width
    if min(down, right) < 0:
        raise ValueError(
            f"Crops of {height} x {width} do not fit into pictures of {image_height} x {image_width}"
        )
    corners = [(0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2)]
    crops = np.empty((len(images), 2, len(corners), height, width, channels), np.float32)
    for image, (straight, mirrored) in zip(images, crops, strict=True):
        for crop, (top, left) in zip(straight, corners, strict=True):
            crop[...] = image[top : top + height, left : left + width]
        mirrored[...] = straight[:, :, ::-1]
    return crops.reshape(-1, height, width, channels)


def _pixels(picture: Image) -> np.ndarray:
    """Return float32 between 0 and 1: H x W for gray, else H x W x 3, or 4 with alpha."""
    if picture.mode == "F":
        return np.asarray(picture)
    if picture.mode.startswith("I"):  # 16 bits, which some versions of Pillow hold as 32
        return np.asarray(picture).astype(np.float32) / np.float32(65535)
    transparent = picture.mode in ("P", "RGBA", "PA") and picture.has_transparency_data
    mode = {"1": "L", "L": "L", "LA": "L"}.get(picture.mode, "RGBA" if transparent else "RGB")
    return np.asarray(picture.convert(mode)).astype(np.float32) / np.float32(255)
