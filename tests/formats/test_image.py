"""Pictures, against what the original decoded from the same files."""

from __future__ import annotations

import io

import numpy as np
import pytest

from caffetools.formats import datum, image
from caffetools.formats.db import open_db
from caffetools.glog import FatalError
from caffetools.proto import caffe_pb2

from .conftest import FORMATS

KINDS = [line.rsplit(" ", 1)[0] for line in (FORMATS / "list_kinds.txt").read_text().splitlines()]

#: Versions of decoders of lossy pictures may differ by a level.
TOLERANCE = 1


def recorded(database):
    with open_db("lmdb", FORMATS / database) as db:
        return {
            key.decode().split("_", 1)[1]: datum.to_array(caffe_pb2.Datum.FromString(value))
            for key, value in db
        }


@pytest.mark.parametrize(("color", "database"), [(True, "set_kinds_lmdb"), (False, "set_kinds_gray_lmdb")])
@pytest.mark.parametrize("name", KINDS)
def test_kinds_as_recorded(name, color, database):
    expected = recorded(database)[name]
    array = image.decode((FORMATS / "images" / "kinds" / name).read_bytes(), color)
    assert array.dtype == np.uint8
    assert array.flags.c_contiguous
    assert array.shape == expected.shape
    assert np.abs(array.astype(int) - expected).max() <= TOLERANCE


@pytest.mark.parametrize("name", KINDS)
def test_shape_by_the_header(name):
    data = (FORMATS / "images" / "kinds" / name).read_bytes()
    assert image.shape_of(data) == image.decode(data).shape


def encoded(array, mode, **options):
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(array, mode).save(buffer, **({"format": "PNG"} | options))
    return buffer.getvalue()


RGBA = np.random.default_rng(0).integers(0, 256, (4, 5, 4), np.uint8)


def test_as_many_channels_as_there_are():
    np.testing.assert_array_equal(image.decode(encoded(RGBA[..., 0], "L")), RGBA[np.newaxis, ..., 0])
    bgr = RGBA[..., [2, 1, 0]].transpose(2, 0, 1)
    np.testing.assert_array_equal(image.decode(encoded(RGBA[..., :3], "RGB")), bgr)
    bgra = RGBA[..., [2, 1, 0, 3]].transpose(2, 0, 1)
    np.testing.assert_array_equal(image.decode(encoded(RGBA, "RGBA")), bgra)


def test_alpha_is_dropped_where_colour_or_gray_is_asked_for():
    opaque = RGBA.copy()
    opaque[..., 3] = 255
    for color in (True, False):
        np.testing.assert_array_equal(
            image.decode(encoded(RGBA, "RGBA"), color), image.decode(encoded(opaque, "RGBA"), color)
        )


def test_gray_is_repeated_where_colour_is_asked_for():
    np.testing.assert_array_equal(
        image.decode(encoded(RGBA[..., 0], "L"), True), np.stack([RGBA[..., 0]] * 3)
    )


@pytest.mark.parametrize(("form", "rounding"), [("PPM", 0.5), ("BMP", 0.5), ("PNG", 0)])
def test_gray_is_opencvs(form, rounding):
    """Luma with three digits, rounded; of PNG files it is libpng's, which cuts off."""
    red, green, blue = (RGBA[..., channel].astype(float) for channel in range(3))
    gray = image.decode(encoded(RGBA[..., :3], "RGB", format=form), False)[0]
    np.testing.assert_allclose(gray, 0.299 * red + 0.587 * green + 0.114 * blue + rounding - 0.5, atol=0.51)


@pytest.mark.parametrize("data", [b"", b"no picture", b"\x89PNG\r\n\x1a\n" + bytes(20)])
def test_no_picture(data):
    for function in (image.decode, image.shape_of):
        with pytest.raises(FatalError, match="Could not decode datum: "):
            function(data)


@pytest.mark.parametrize(
    "name", ["rgb.ppm", "gray16.png", "progressive.jpg", "lossless.tif", "lossless.webp"]
)
def test_truncated_picture(name):
    data = (FORMATS / "images" / "kinds" / name).read_bytes()
    with pytest.raises(FatalError, match="Could not decode datum: "):
        image.decode(data[: len(data) // 2], True)
