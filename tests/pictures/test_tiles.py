"""The pixels of tiles against the weights that they show."""

from __future__ import annotations

import numpy as np
import pytest

from caffetools.pictures import tiles


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([-2, -1, 0, 2], [0, 0.25, 0.5, 1]),
        ([1, 4], [0.625, 1]),
        ([0, 0], [0.5, 0.5]),
        ([np.nan, -1, np.inf], [np.nan, 0, np.nan]),
        ([np.nan], [np.nan]),
    ],
)
def test_signed(values, expected):
    np.testing.assert_array_equal(tiles.signed(np.array(values, np.float32))[: len(values)], expected)


def test_colour_filters_turn_blue_green_red_to_red_green_blue(rng):
    weights = rng.normal(size=(4, 3, 5, 7)).astype(np.float32)
    pictures = tiles.colour_filters(weights)
    assert pictures.shape == (4, 5, 7, 3)
    scale = 2 * np.abs(weights).max()
    for red_green_blue, blue_green_red in ((0, 2), (1, 1), (2, 0)):
        expected = weights[:, blue_green_red] / scale + 0.5
        np.testing.assert_allclose(pictures[..., red_green_blue], expected, atol=1e-6)


def test_norms(rng):
    weights = rng.normal(size=(4, 6, 3, 2))
    np.testing.assert_allclose(tiles.norms(weights), np.linalg.norm(weights, axis=1), rtol=1e-12)


@pytest.mark.parametrize(("n", "c"), [(3, 2), (2, 3)])
def test_tiles_by_channel_run_along_the_longer_axis(n, c, rng):
    weights = rng.normal(size=(n, c, 2, 2))
    planes, row = tiles.by_channel(weights)
    assert row == 3
    for i in range(n):
        for j in range(c):
            index = i * 3 + j if c > n else j * 3 + i
            np.testing.assert_array_equal(planes[index], weights[i, j])


@pytest.mark.parametrize(
    ("shape", "columns", "rows", "zoom", "gap"),
    [
        ((5, 20, 30), 2, 3, 1, 3),
        ((6, 5, 5), 3, 2, 4, 2),
        ((7, 3, 3, 3), 4, 2, 6, 2),
        ((1, 2, 2), 1, 1, 8, 2),
    ],
)
def test_grid(shape, columns, rows, zoom, gap, rng):
    values = rng.normal(size=shape)
    picture = tiles.grid(values, columns)
    height, width = shape[1] * zoom, shape[2] * zoom
    assert picture.shape[:2] == (rows * (height + gap) - gap, columns * (width + gap) - gap)
    seen = np.zeros(picture.shape[:2], bool)
    for index, value in enumerate(values):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        part = np.s_[top : top + height, left : left + width]
        np.testing.assert_array_equal(picture[part][::zoom, ::zoom], value)
        np.testing.assert_array_equal(picture[part][zoom - 1 :: zoom, zoom - 1 :: zoom], value)
        seen[part] = True
    assert np.isnan(picture[~seen]).all()


def test_a_grid_is_about_as_wide_as_a_page():
    height, width = tiles.grid(np.zeros((96, 16, 16))).shape
    assert 1.2 < width / height < 1.9
