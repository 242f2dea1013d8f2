"""IDX, the format of the MNIST files, plain or compressed with gzip.

All numbers are big-endian int32: a magic number, the number of items, for images also rows and columns; then
a byte for each pixel or label.
"""

from __future__ import annotations

import gzip
import math
import os
import zlib

import numpy as np

from caffetools import glog
from caffetools.formats import files

IMAGES = 2051
LABELS = 2049


def read_images(path: str | os.PathLike[str]) -> np.ndarray:
    """The pictures of a file, uint8, items x rows x columns.

    :raises FatalError: if the file cannot be opened, is none of images, or is not complete
    """
    return _read(os.fspath(path), "image", IMAGES, axes=3)


def read_labels(path: str | os.PathLike[str]) -> np.ndarray:
    """The labels of a file, uint8, one an item.

    :raises FatalError: as :func:`read_images`
    """
    return _read(os.fspath(path), "label", LABELS, axes=1)


def _read(path: str, kind: str, expected: int, axes: int) -> np.ndarray:
    data = _contents(path, kind)
    header = 4 * (1 + axes)
    if len(data) < header:
        glog.fatal(f"{path} is truncated: {len(data)} bytes are fewer than the {header} of its header")
    magic, *shape = (int(number) for number in np.frombuffer(data, ">i4", 1 + axes))
    held = _HOLDS.get(magic, "is no idx file")
    glog.check_eq(magic, expected, f"magic == {expected}", f"Incorrect {kind} file magic. ({path} {held})")
    size, stored = math.prod(shape), len(data) - header
    if stored != size or min(shape) < 0:
        state = "truncated" if stored < size else "damaged"
        items = " x ".join(map(str, shape))
        glog.fatal(f"{path} is {state}: its header promises {items} bytes, but {stored} follow it")
    return np.frombuffer(data, np.uint8, size, header).reshape(shape)


_HOLDS = {IMAGES: "holds images", LABELS: "holds labels"}


def _contents(path: str, kind: str) -> bytes:
    """The bytes of a file, decompressed if they are gzip's, whatever its name."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        glog.check(False, f"{kind}_file", f"Unable to open file {path}")
    except OSError as err:
        glog.check(False, f"{kind}_file", f"Unable to open file {path} ({files.reason(err)})")
    if not data.startswith(b"\x1f\x8b"):
        return data
    try:
        return gzip.decompress(data)
    except (EOFError, OSError, zlib.error):
        glog.fatal(f"{path} is truncated or damaged: its gzip data cannot be unpacked")
