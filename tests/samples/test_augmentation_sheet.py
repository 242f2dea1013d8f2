"""The contact sheet of augmentations: where its tiles are, and that each shows what its row says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SCRIPT = Path(__file__).parents[2] / "scripts" / "augmentation_sheet.py"
SIZE, COLUMNS, GAP, TITLE = 24, 5, 4, 16


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sheet")
    h, w = np.mgrid[:60, :80]
    rgb = np.stack([60 + 2 * h, 60 + 2 * w, np.full((60, 80), 90)], 2).astype(np.uint8)
    Image.fromarray(rgb).save(folder / "ramp.png")
    Image.new("RGB", (30, 40), (10, 200, 100)).save(folder / "green.png")

    def run(*arguments):
        sizes = ["--size", str(SIZE), "--columns", str(COLUMNS), "--out", "sheet.png"]
        command = [sys.executable, str(SCRIPT), *sizes, *arguments]
        environment = {"PYTHONPATH": str(SCRIPT.parents[1])}
        done = subprocess.run(
            command, cwd=folder, text=True, capture_output=True, env={**os.environ, **environment}
        )
        return done, np.asarray(Image.open(folder / "sheet.png")) if done.returncode == 0 else None

    return run


def tile(sheet, row, column):
    top, left = GAP + row * (TITLE + SIZE + GAP) + TITLE, GAP + column * (SIZE + GAP)
    return sheet[top : top + SIZE, left : left + SIZE].astype(int)


def test_a_row_for_each_kind(make):
    done, sheet = make("ramp.png", "green.png")
    assert done.returncode == 0, done.stderr
    rows = (len(sheet) - GAP) // (TITLE + SIZE + GAP)
    assert sheet.shape == (GAP + rows * (TITLE + SIZE + GAP), GAP + COLUMNS * (SIZE + GAP), 3)
    assert rows == 12
    for row in range(rows):
        title = sheet[GAP + row * (TITLE + SIZE + GAP) :][:TITLE]
        assert np.any(title < 128), f"no title above row {row}"
        assert np.all(title[:, :GAP] == 255)
        for column in range(COLUMNS):
            assert tile(sheet, row, column).std() > 1 or column % 2, f"nothing in row {row}, column {column}"
    between = sheet[GAP + TITLE :][:SIZE][:, GAP + SIZE : GAP + SIZE + GAP]
    assert np.all(between == 255)


def test_pictures_take_turns_and_keep_their_colours(make):
    _, sheet = make("ramp.png", "green.png", "--augmentation", f"resize_short: {SIZE}")
    for column in range(COLUMNS):
        found = tile(sheet, 0, column)
        if column % 2:
            assert np.all(found == [10, 200, 100])
        else:
            assert abs(found[..., 2] - 90).max() <= 1
            slope = np.polyfit(np.arange(SIZE), found[..., 0].mean(1), 1)[0]
            assert slope == pytest.approx(2 * 60 / SIZE, rel=0.05)


def test_a_row_shows_its_setting(make):
    _, sheet = make(
        "green.png", "--augmentation", f"resize_short: {SIZE} cutout {{ size: 8 }}", "--augmentation",
        f"resize_short: {SIZE} brightness: 0.5",
    )  # fmt: skip
    for column in range(COLUMNS):
        hole = (tile(sheet, 0, column) == 0).all(2)
        assert 16 <= hole.sum() <= 64
        green = tile(sheet, 1, column)[0, 0]
        assert green[1] == pytest.approx(min(255, 2 * green[2]), abs=2)
    assert len({tile(sheet, 1, column)[0, 0, 1] for column in range(COLUMNS)}) > 1


def test_the_seed_decides(make):
    setting = ("ramp.png", "--augmentation", "random_resized_crop { }")
    first, again, other = (make(*setting, "--seed", seed)[1] for seed in ("1", "1", "2"))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.png"], "nowhere.png"),
        (["ramp.png", "--augmentation", "hue: 2"], "hue must be from 0 to 0.5"),
        (["ramp.png", "--augmentation", "colour: 2"], "colour"),
    ],
)
def test_refused(arguments, message, make):
    done, _ = make(*arguments)
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1]
