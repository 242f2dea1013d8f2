"""Resizing: against the formula in floating point, and against OpenCV where it is installed."""

from __future__ import annotations

import numpy as np
import pytest

from caffetools.samples.resize import resize, resize_words

SIZES = [  # from height, width, to height, width
    (7, 9, 13, 4),
    (40, 60, 32, 32),
    (33, 57, 100, 80),
    (64, 48, 32, 24),  # exactly half
    (64, 48, 32, 25),  # half in one direction
    (100, 90, 10, 9),
    (1, 1, 5, 7),
    (5, 1, 1, 3),
    (6, 8, 6, 4),
    (6, 8, 3, 8),
]


def picture(height, width, channels=3):
    return np.random.default_rng(height * width).integers(0, 256, (channels, height, width), dtype=np.uint8)


def interpolated(x, new_size, axis):
    """Linear interpolation along an axis between the middles of pixels, with the outermost ones continued."""
    size = x.shape[axis]
    position = np.clip((np.arange(new_size) + 0.5) * size / new_size - 0.5, 0, size - 1)
    first = np.floor(position).astype(int)
    weight = np.expand_dims(position - first, tuple(i for i in range(x.ndim) if i != axis))
    second = np.minimum(first + 1, size - 1)
    return x.take(first, axis) * (1 - weight) + x.take(second, axis) * weight


@pytest.mark.parametrize("sizes", SIZES)
def test_formula(sizes):
    x = picture(*sizes[:2])
    expected = interpolated(interpolated(x.astype(float), sizes[2], 1), sizes[3], 2)
    y = resize(x, *sizes[2:])
    assert y.shape == expected.shape
    assert y.dtype == np.uint8
    assert np.abs(y - expected).max() < 1


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("sizes", SIZES)
def test_opencv_gives_the_same_bytes(sizes, channels):
    cv2 = pytest.importorskip("cv2")
    x = picture(*sizes[:2], channels)
    expected = cv2.resize(np.ascontiguousarray(x.transpose(1, 2, 0)), (sizes[3], sizes[2]))
    np.testing.assert_array_equal(
        resize(x, *sizes[2:]).transpose(1, 2, 0), expected.reshape(*sizes[2:], channels)
    )


def test_same_size():
    x = picture(5, 6)
    np.testing.assert_array_equal(resize(x, 5, 6), x)


@pytest.mark.parametrize("value", [0, 1, 127, 254, 255])
def test_one_grey_stays_the_same(value):
    x = np.full((1, 11, 13), value, np.uint8)
    assert (resize(x, 17, 5) == value).all()


@pytest.mark.parametrize("sizes", [*SIZES, (6, 8, 6, 8)])
def test_words_are_planes_in_another_form(sizes):
    x = picture(*sizes[:2])
    words = np.zeros((*sizes[:2], 4), np.uint8)
    words[..., 2::-1] = x.transpose(1, 2, 0)
    words[..., 3] = 77  # Pillow leaves something there
    np.testing.assert_array_equal(
        resize_words(words.view("<u4")[..., 0].astype(np.uint32), *sizes[2:]), resize(x, *sizes[2:])
    )
