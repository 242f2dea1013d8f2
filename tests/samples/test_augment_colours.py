"""Augmentation of colours against formulas: brightness, contrast, saturation and hue."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest

from caffetools.engine.cpu import rng
from caffetools.samples.color_jitter import GRAY, jitter
from tests.samples.test_augment import FLOATS, KEY, PICTURES, RANDOM, assert_even, augmenter


def rounded(y, dtype):
    return np.clip(np.rint(y), 0, 255) if dtype == np.uint8 else y


FORMULAS = {
    "brightness": lambda x, f: f * x,
    "contrast": lambda x, f: f * x + (1 - f) * np.tensordot(GRAY, x.mean((1, 2)), 1),
    "saturation": lambda x, f: f * x + (1 - f) * np.tensordot(GRAY, x, 1),
}


@pytest.mark.parametrize("x", [PICTURES[0], FLOATS[0]], ids=["bytes", "floats"])
@pytest.mark.parametrize("factor", [0, 0.3, 1, 1.7])
@pytest.mark.parametrize("name", FORMULAS)
def test_factors(name, factor, x):
    factors = {"brightness": 1, "contrast": 1, "saturation": 1, name: factor}
    expected = rounded(FORMULAS[name](x.astype(np.float64), factor), x.dtype)
    tolerance = 1 if x.dtype == np.uint8 else 2e-4  # a half may be rounded either way
    y = jitter(x, **factors)
    np.testing.assert_allclose(y, expected, atol=tolerance)
    assert np.mean(y != expected) < 0.05 or x.dtype == np.float32


def test_all_at_once_is_one_after_the_other():
    x = FLOATS[0]
    steps = jitter(jitter(jitter(jitter(x, 1.2, 1), 1, 0.7), 1, 1, 1.4), 1, 1, 1, 0.1)
    np.testing.assert_allclose(jitter(x, 1.2, 0.7, 1.4, 0.1), steps, atol=1e-3)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_other_numbers_of_channels_have_brightness_and_contrast(channels):
    x = RANDOM.random((channels, 5, 6), np.float32)
    np.testing.assert_allclose(jitter(x, 1.5, 0.5), 0.75 * x + 0.75 * x.mean(), rtol=1e-5)


@pytest.mark.parametrize("turn", [-0.3, 0.1, 0.5])
def test_hue_keeps_grays_and_the_gray_of_colours(turn):
    gray = np.repeat(FLOATS[0, :1], 3, 0)
    np.testing.assert_allclose(jitter(gray, 1, 1, 1, turn), gray, atol=2e-4)
    y = jitter(FLOATS[0], 1, 1, 1, turn)
    np.testing.assert_allclose(np.tensordot(GRAY, y, 1), np.tensordot(GRAY, FLOATS[0], 1), atol=2e-4)
    np.testing.assert_allclose(jitter(y, 1, 1, 1, -turn), FLOATS[0], atol=1e-3)
    assert not np.allclose(y, FLOATS[0], atol=10)


@pytest.mark.parametrize("turn", [-1 / 3, 1 / 3])
def test_hue_turns_as_the_colour_circle_does(turn):
    for hue in np.arange(12) / 12:
        color = np.float32(colorsys.hsv_to_rgb(hue, 0.2, 1))[::-1].reshape(3, 1, 1)
        found = colorsys.rgb_to_hsv(*jitter(color, 1, 1, 1, turn).ravel()[::-1].tolist())[0]
        distance = (found - hue - turn + 0.5) % 1 - 0.5
        assert abs(distance) < 0.1  # YIQ's circle is not quite that of HSV


def test_no_pixel_leaves_the_range_of_bytes():
    x = np.array([0, 128, 255], np.uint8).repeat(3).reshape(3, 3, 1)
    assert jitter(x, 3, 1).ravel().tolist() == [0] * 3 + [255] * 6
    assert jitter(np.full((3, 2, 2), 200, np.uint8), 0, 1).max() == 0


def test_floats_keep_nan():
    x = np.array([np.nan, 1], np.float32).reshape(1, 1, 2)
    np.testing.assert_array_equal(jitter(x, 2, 1).ravel(), [np.nan, 2])


def test_factors_are_even_between_the_bounds(monkeypatch):
    drawn = []
    monkeypatch.setattr("caffetools.samples.augment.jitter", lambda picture, *values: drawn.append(values) or picture)
    a = augmenter("brightness: 0.4 contrast: 0.3 saturation: 0.2 hue: 0.1")
    for sample in range(2000):
        a.apply(PICTURES[0], rng.mix(KEY, sample))
    values = np.array(drawn)
    for column, width, middle in zip(values.T, (0.4, 0.3, 0.2, 0.1), (1, 1, 1, 0), strict=True):
        assert_even(column.tolist(), middle - width, middle + width)
    assert np.all(abs(np.corrcoef(values.T) - np.eye(4)) < 0.1)


def test_factors_are_not_negative(monkeypatch):
    drawn = []
    monkeypatch.setattr(
        "caffetools.samples.augment.jitter", lambda picture, *values: drawn.append(values[0]) or picture
    )
    for sample in range(100):
        augmenter("brightness: 3").apply(PICTURES[0], rng.mix(KEY, sample))
    assert min(drawn) == 0
    assert max(drawn) > 3
