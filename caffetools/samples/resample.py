"""Pictures in another size with smoothing, for augmentation.

Where a picture becomes smaller, a pixel is the mean of those it stands for, with weights that form a triangle
(bilinear with antialiasing, as Pillow has it). OpenCV's `resize` (`resize.py`), which the original's options
mean, skips pixels instead. Each channel is resampled on its own, so that there may be any number of them.
"""

from __future__ import annotations

import numpy as np

#: Left, top, right and bottom, in pixels; need not be whole.
Box = tuple[float, float, float, float]


def resample(chw: np.ndarray, height: int, width: int, box: Box | None = None) -> np.ndarray:
    """Return the part `box` of a picture (all of it by default) with the shape (channels, height, width).

    chw: contiguous, uint8 or float32; the result is contiguous and of the same type. It is the picture itself
    where nothing is to be done. Pillow works without the GIL.
    """
    from PIL import Image

    whole = (0.0, 0.0, float(chw.shape[2]), float(chw.shape[1]))
    box = whole if box is None else box
    if box == whole and chw.shape[1:] == (height, width):
        return chw
    y = np.empty((len(chw), height, width), chw.dtype)
    for plane, result in zip(chw, y, strict=True):
        result[...] = Image.fromarray(plane).resize((width, height), Image.Resampling.BILINEAR, box)
    return y
