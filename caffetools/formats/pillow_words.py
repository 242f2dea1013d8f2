"""The pixels of a picture where Pillow has them, by the Arrow interface that Pillow has had since its release 11.2.

A copy of a picture costs little by itself, but the memory for it much: it comes new from the system, page by page.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image


class _ArrowArray(ctypes.Structure):
    """A struct ArrowArray of the Arrow C data interface."""


_ArrowArray._fields_ = [
    ("length", ctypes.c_int64),
    ("null_count", ctypes.c_int64),
    ("offset", ctypes.c_int64),
    ("n_buffers", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.POINTER(ctypes.POINTER(_ArrowArray))),
    ("dictionary", ctypes.c_void_p),
    ("release", ctypes.c_void_p),
    ("private_data", ctypes.c_void_p),
]


def words(picture: Image) -> np.ndarray:
    """The pixels of a picture of mode "RGB": uint32, H x W, red in the lowest byte. Read-only.

    A view of the picture's own memory, which lives as long as the view, or a copy where there is no view to be
    had: with an older Pillow, or of a picture of more than 16 MiB, which lies in several pieces.
    """
    view = _view(picture)
    if view is None:
        view = np.frombuffer(picture.tobytes("raw", "RGBX"), "<u4")
    return view.reshape(picture.height, picture.width)


def _view(picture: Image) -> np.ndarray | None:
    try:
        _, capsule = picture.__arrow_c_array__()
        get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
    except (AttributeError, ValueError):
        return None
    get_pointer.restype, get_pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    pixels = ctypes.cast(get_pointer(capsule, b"arrow_array"), ctypes.POINTER(_ArrowArray)).contents
    if pixels.n_children != 1:
        return None
    values = pixels.children[0].contents  # four bytes for each pixel
    count = picture.width * picture.height
    if (pixels.length, values.length, pixels.offset, values.offset) != (count, 4 * count, 0, 0):
        return None
    buffer = (ctypes.c_uint32 * count).from_address(values.buffers[1])
    buffer.owner = capsule  # which gives the memory back when nobody refers to it any longer
    view = np.frombuffer(buffer, np.uint32)
    view.flags.writeable = False
    return view
