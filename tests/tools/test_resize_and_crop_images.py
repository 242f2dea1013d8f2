"""resize_and_crop_images: squares against OpenCV's and Pillow's, and what can go wrong."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image

from caffetools.formats import image
from caffetools.glog import FatalError
from caffetools.tools.resize_and_crop_images import resize_and_crop
from tests.recorded import FORMATS, log_lines, run_tool

PICTURES = FORMATS / "images"
EXIF = "kinds/exif_rotated.jpg"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(PICTURES, tmp_path / "in")
    return tmp_path


def pixels(path):
    """Red, green, blue of a file."""
    return image.decode(path.read_bytes(), True)[::-1].transpose(1, 2, 0)


@pytest.mark.parametrize("name", ["a.png", "d.png", "sub/gray.png", EXIF])
def test_opencv(name, folder):
    cv2 = pytest.importorskip("cv2")
    assert resize_and_crop("in", "out", 24) in (0, 1)
    picture = cv2.imread(str(PICTURES / name))
    height, width = picture.shape[:2]
    size = (24 * width // height, 24) if width > height else (24, 24 * height // width)
    expected = cv2.resize(picture, size)
    top, left = (expected.shape[0] - 24) // 2, (expected.shape[1] - 24) // 2
    square = expected[top : top + 24, left : left + 24, ::-1]
    difference = np.abs(pixels(folder / "out" / name).astype(int) - square)
    assert difference.shape == (24, 24, 3)
    if name.endswith(".png"):
        assert difference.max() == 0
    else:
        assert difference.mean() < 8  # encoded once more


def test_pil(folder):
    assert resize_and_crop("in", "out", 20, "pil") in (0, 1)
    picture = Image.open(PICTURES / "d.png").convert("RGB")  # 96 x 128
    expected = picture.crop((0, 16, 96, 112)).resize((20, 20), Image.Resampling.LANCZOS)
    assert np.abs(pixels(folder / "out" / "d.png").astype(int) - np.asarray(expected)).max() <= 1


@pytest.mark.parametrize("library", ["opencv", "pil"])
def test_halves_of_a_wide_picture(library, folder):
    """The centre is what is left: a third of each colour of a picture of three."""
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 255
    (folder / "in2").mkdir()
    Image.fromarray(wide).save("in2/w.png")
    Image.fromarray(wide.transpose(1, 0, 2).copy()).save("in2/h.png")
    assert resize_and_crop("in2", "out2", 10, library) == 0
    for name in ("w.png", "h.png"):
        assert (pixels(folder / "out2" / name) == 255).all()


def test_every_picture_and_its_folder(folder):
    (folder / "in" / "bad.jpg").write_bytes(b"no picture")
    result = run_tool(
        "resize_and_crop_images",
        "--input_folder=in",
        "--output_folder=out",
        "--output_side_length=8",
        cwd=folder,
    )
    assert result.returncode == 1
    lines = log_lines(result.stderr)
    failed = [line for line in lines if line.startswith("E Could not resize ")]
    assert failed == [line for line in failed if "in/bad.jpg (Could not decode" in line] and len(failed) == 1
    assert lines[-1] == "E 1 of 20 pictures could not be resized"
    made = [path for path in (folder / "out").rglob("*") if path.is_file()]
    assert len(made) == 19 and folder / "out" / "sub" / "c with space.jpg" in made
    for path in made:
        assert pixels(path).shape == (8, 8, 3)


def test_list(folder):
    (folder / "list.txt").write_text("a.png 3\nin/sub/gray.png\n\n")
    assert resize_and_crop("in", "out", 8, names="list.txt") == 0
    assert (folder / "out" / "a.png").exists() and (folder / "out" / "sub" / "gray.png").exists()
    assert len([path for path in (folder / "out").rglob("*") if path.is_file()]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere", "out"), "There is no folder nowhere"),
        (("in", "in"), "--output_folder=in is the input folder"),
        (("in", "in/../in"), "is the input folder"),
        (("in", ""), "--output_folder must say"),
        (("in", "out", 0), "--output_side_length=0"),
        (("in", "out", 8, "gd"), "Unknown image_lib: gd .known: opencv, pil"),
        (("empty", "out"), "There are no pictures in empty"),
        (("in", "out", 8, "pil", "nowhere.txt"), "Failed to open the list of pictures: nowhere.txt"),
    ],
)
def test_mistakes(arguments, message, folder):
    (folder / "empty").mkdir()
    with pytest.raises(FatalError, match=message):
        resize_and_crop(*arguments)
    assert not (folder / "out").exists()


def test_usage(folder):
    assert run_tool("resize_and_crop_images", "--input_folder=in", cwd=folder).returncode == 1
