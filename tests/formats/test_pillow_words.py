"""Pillow's pixels, against what NumPy makes of the same pictures."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from caffetools.formats import pillow_words
from caffetools.formats.pillow_words import words


def picture(height, width):
    rgb = np.random.default_rng(height).integers(0, 256, (height, width, 3)).astype(np.uint8)
    return rgb, Image.fromarray(rgb)


def channels(array):
    return np.stack([array & 255, array >> 8 & 255, array >> 16 & 255], axis=-1)


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (375, 500), (2100, 2100)])
def test_pixels(size):
    """The last one is too large for one piece of memory."""
    rgb, image = picture(*size)
    found = words(image)
    assert found.dtype == np.uint32 and not found.flags.writeable
    np.testing.assert_array_equal(channels(found), rgb)


@pytest.mark.parametrize("missing", ["method", "several pieces"])
def test_pixels_where_no_view_is_to_be_had(missing, monkeypatch):
    def refuse(self):
        raise ValueError("Image is in multiple array blocks, use imaging_new_block for zero copy")

    monkeypatch.setattr(Image.Image, "__arrow_c_array__", refuse, raising=False)
    if missing == "method":
        monkeypatch.delattr(Image.Image, "__arrow_c_array__")
    rgb, image = picture(30, 40)
    np.testing.assert_array_equal(channels(words(image)), rgb)


def test_a_view_outlives_its_picture():
    """Many pictures of one size, each dropped at once: memory that is used again would show in the views."""
    pairs = []
    for i in range(50):
        rgb, image = picture(100 + i % 2, 120)
        rgb, image = rgb ^ i, Image.fromarray(rgb ^ i)
        pairs.append((rgb, words(image)))
        del image
    for rgb, found in pairs:
        np.testing.assert_array_equal(channels(found), rgb)


def test_views_are_given_back():
    """A thousand pictures of 1 MB do not pile up."""
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(1000):
        words(Image.new("RGB", (512, 512)))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


def test_the_view_is_no_copy():
    if not hasattr(Image.Image, "__arrow_c_array__"):
        pytest.skip("an older Pillow")
    image = picture(8, 8)[1]
    found = pillow_words._view(image)
    image.putpixel((3, 2), (1, 2, 3))
    assert found.reshape(8, 8)[2, 3] & 0xFFFFFF == 0x030201
