"""Every tool that writes, on a disk that is full: one line that says so, and nothing half-written."""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from tests.recorded import FORMATS, log_lines, run_tool

SMALL = "small_iter_40.caffemodel"


@pytest.fixture
def disk(tmp_path):
    """A file system of 1 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    try:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting is not permitted")
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.fixture
def inputs(tmp_path):
    """What the tools read, beside the small disk."""
    rng = np.random.default_rng(0)
    (tmp_path / "pictures").mkdir()
    for i in range(10):
        pixels = rng.integers(0, 256, (200, 200, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{i}.png")
    (tmp_path / "list.txt").write_text("".join(f"{i}.png {i}\n" for i in range(10)))
    for i in (1, 2, 3, 4, 5):
        (tmp_path / f"data_batch_{i}.bin").write_bytes(bytes(3073) * 200)
    (tmp_path / "test_batch.bin").write_bytes(bytes(3073) * 200)
    (tmp_path / "full.log").write_text(
        "".join(
            f"I1123 19:39:09.5 2 s.py:9] Iteration {i}, loss = 2\nI1123 19:39:09.5 2 s.py:9]     "
            f"Train net output #0: loss = 2.25\n"
            for i in range(60_000)
        )
    )
    for name in (SMALL, "features.prototxt"):
        shutil.copy(FORMATS / name, tmp_path)
    (tmp_path / "mnist_t10k_lmdb").symlink_to(FORMATS / "mnist_t10k_lmdb")
    Image.fromarray(rng.integers(0, 256, (700, 700, 3)).astype(np.uint8)).save(tmp_path / "large.png")
    (tmp_path / "large.txt").write_text("large.png 0\n")
    return tmp_path


FEATURES = (SMALL, "features.prototxt", "data,conv1")
RUNS = [
    ("convert_imageset", "pictures/", "list.txt", "disk/db"),
    ("convert_imageset", "--backend=leveldb", "pictures/", "list.txt", "disk/db"),
    ("convert_imageset", "--encode_type=bmp", "pictures/", "list.txt", "disk/db"),
    ("convert_cifar_data", ".", "disk", "lmdb"),
    ("extract_features", *FEATURES, "disk/a,disk/b", "20", "lmdb"),
    ("extract_features", "--npz=disk/f.npz", *FEATURES, "40"),
    ("extract_features", "--hdf5=disk/f.h5", *FEATURES, "40"),
    ("parse_log", "full.log", "disk"),
    ("parse_log", "--format=json", "full.log", "disk"),
]


@pytest.mark.parametrize("run", RUNS, ids=lambda run: " ".join(run[:2]))
def test_full_disk(run, inputs, disk):
    if "leveldb" in run[1]:
        pytest.importorskip("plyvel")
    result = run_tool(run[0], *run[1:], cwd=inputs)
    assert result.returncode == 134, result.stderr
    last = log_lines(result.stderr)[-1]
    assert last.startswith("F ") and "No space left on device" in last, last
    assert "Traceback" not in result.stderr
    assert not list(disk.iterdir())


def test_full_disk_of_squares(inputs, disk):
    """Those that found room are whole, the others are named."""
    options = ["--input_folder=pictures", "--output_folder=disk/out", "--output_side_length=190"]
    result = run_tool("resize_and_crop_images", *options, cwd=inputs)
    assert result.returncode == 1
    assert "No space left on device" in result.stderr
    made = list((disk / "out").iterdir())
    assert 0 < len(made) < 10
    for path in made:
        with Image.open(path) as picture:
            picture.load()
            assert picture.size == (190, 190)


def test_full_disk_of_a_mean(inputs, disk):
    run_tool("convert_imageset", "./", "large.txt", "db", cwd=inputs, check=True)
    result = run_tool("compute_image_mean", "db", "disk/mean", cwd=inputs)
    assert result.returncode == 134
    assert log_lines(result.stderr)[-1] == "F Cannot write disk/mean: No space left on device"
    assert not list(disk.iterdir())
