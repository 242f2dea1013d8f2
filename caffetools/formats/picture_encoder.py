"""Arrays to picture files, with the settings that OpenCV had where the original encoded pictures."""

from __future__ import annotations

import io

import numpy as np

from caffetools import glog

#: Pillow's format and options by extension. All but JPEG keep every pixel.
ENCODERS: dict[str, tuple[str, dict[str, object]]] = {
    "bmp": ("BMP", {}),
    "jp2": ("JPEG2000", {}),
    "jpeg": ("JPEG", {"quality": 95, "subsampling": "4:2:0"}),
    "jpg": ("JPEG", {"quality": 95, "subsampling": "4:2:0"}),
    "pgm": ("PPM", {}),
    "png": ("PNG", {"compress_level": 1}),
    "ppm": ("PPM", {}),
    "tif": ("TIFF", {"compression": "tiff_lzw"}),
    "tiff": ("TIFF", {"compression": "tiff_lzw"}),
    "webp": ("WEBP", {"lossless": True}),
}


def check_extension(extension: str) -> None:
    """Refuse an extension that is not in `ENCODERS`."""
    if extension not in ENCODERS:
        glog.fatal(f"Pictures cannot be encoded as '{extension}' (known: {', '.join(ENCODERS)})")


def encode(chw: np.ndarray, extension: str) -> bytes:
    """Return the file of a uint8 picture (channels, height, width), of one channel or blue, green, red.

    :param extension: one of `ENCODERS`
    :raises FatalError: for another extension, and for sizes that the format cannot have
    """
    from PIL import Image

    check_extension(extension)
    name, options = ENCODERS[extension]
    pixels = chw[0] if len(chw) == 1 else np.ascontiguousarray(chw[::-1].transpose(1, 2, 0))
    buffer = io.BytesIO()
    try:
        Image.fromarray(pixels).save(buffer, name, **options)
    except (OSError, ValueError) as err:
        height, width = chw.shape[1:]
        glog.fatal(f"A picture of {width} x {height} cannot be encoded as {extension}: {err}")
    return buffer.getvalue()
