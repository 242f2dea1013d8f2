"""IDX files, against headers written here and the recorded errors of the original."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest

from caffetools.formats import idx
from caffetools.glog import FatalError

from .conftest import FORMATS

PICTURES = np.random.default_rng(0).integers(0, 256, (5, 3, 4), np.uint8)


def idx_bytes(magic, array):
    return struct.pack(f">{1 + array.ndim}i", magic, *array.shape) + array.tobytes()


@pytest.fixture(params=["plain", "gz"])
def pack(request, tmp_path):
    """Writes a file, plain or compressed, and returns its path."""

    def write(data):
        path = tmp_path / "file"
        path.write_bytes(gzip.compress(data) if request.param == "gz" else data)
        return path

    return write


def test_images(pack):
    np.testing.assert_array_equal(idx.read_images(pack(idx_bytes(2051, PICTURES))), PICTURES)


def test_labels(pack):
    np.testing.assert_array_equal(idx.read_labels(pack(idx_bytes(2049, PICTURES[0, 0]))), PICTURES[0, 0])


def test_no_items(pack):
    assert idx.read_images(pack(idx_bytes(2051, PICTURES[:0]))).shape == (0, 3, 4)


def test_recorded_file():
    raw = (FORMATS / "t10k-images-idx3-ubyte").read_bytes()
    pictures = idx.read_images(FORMATS / "t10k-images-idx3-ubyte")
    assert pictures.shape == (32, 28, 28)
    assert pictures.tobytes() == raw[16:]


@pytest.mark.parametrize(
    ("reader", "kind", "magic", "number", "what"),
    [
        (idx.read_images, "image", 2051, 2049, "holds labels"),
        (idx.read_labels, "label", 2049, 2051, "holds images"),
        (idx.read_images, "image", 2051, 0, "is no idx file"),
        (idx.read_labels, "label", 2049, -1, "is no idx file"),
    ],
)
def test_magic(reader, kind, magic, number, what, tmp_path):
    path = tmp_path / "f"
    path.write_bytes(idx_bytes(number, PICTURES))
    with pytest.raises(FatalError) as error:
        reader(path)
    expected = f"magic == {magic} ({number} vs. {magic}) Incorrect {kind} file magic. ({path} {what})"
    assert str(error.value) == f"Check failed: {expected}"


def test_magic_as_recorded(monkeypatch):
    monkeypatch.chdir(FORMATS)
    with pytest.raises(FatalError) as error:
        idx.read_images("t10k-labels-idx1-ubyte")
    recorded = (FORMATS / "log_convert_mnist_bad_magic.txt").read_text()
    said, reason = str(error.value).split(" (t10k")
    assert f"] {said}\n" in recorded
    assert reason == "-labels-idx1-ubyte holds labels)"


@pytest.mark.parametrize(
    ("end", "what"),
    [
        (-1, "its header promises 5 x 3 x 4 bytes, but 59 follow it"),
        (-60, "its header promises 5 x 3 x 4 bytes, but 0 follow it"),
        (7, "7 bytes are fewer than the 16 of its header"),
        (0, "0 bytes are fewer than the 16 of its header"),
    ],
)
def test_truncated(end, what, pack):
    with pytest.raises(FatalError, match=f"file is truncated: {what}"):
        idx.read_images(pack(idx_bytes(2051, PICTURES)[:end]))


def test_more_than_the_header_promises(pack):
    message = "file is damaged: its header promises 5 x 3 x 4 bytes, but 61 follow it"
    with pytest.raises(FatalError, match=message):
        idx.read_images(pack(idx_bytes(2051, PICTURES) + b"\0"))


def test_negative_size(pack):
    with pytest.raises(FatalError, match="file is damaged: its header promises -1 x -1 x 4 bytes"):
        idx.read_images(pack(struct.pack(">4i", 2051, -1, -1, 4) + bytes(4)))


@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_damaged_gz(damage, tmp_path):
    data = bytearray(gzip.compress(idx_bytes(2051, PICTURES)))
    if damage == "cut":
        del data[-20:]
    else:
        data[25] ^= 0xFF
    (tmp_path / "f.gz").write_bytes(data)
    with pytest.raises(FatalError, match=r"f\.gz is truncated or damaged: its gzip data cannot be unpacked"):
        idx.read_images(tmp_path / "f.gz")


@pytest.mark.parametrize(("reader", "kind"), [(idx.read_images, "image"), (idx.read_labels, "label")])
def test_missing_file(reader, kind):
    with pytest.raises(FatalError) as error:
        reader("nope")
    assert str(error.value) == f"Check failed: {kind}_file Unable to open file nope"


def test_folder(tmp_path):
    with pytest.raises(FatalError, match=r"Unable to open file \S+ \(Is a directory\)"):
        idx.read_images(tmp_path)
