"""Augmentation against formulas in NumPy, and the distributions of what is drawn."""

from __future__ import annotations

import numpy as np
import pytest
from google.protobuf import text_format
from PIL import Image

from caffetools.engine.cpu import rng
from caffetools.glog import FatalError
from caffetools.layer import TEST, TRAIN
from caffetools.proto import caffe_pb2
from caffetools.samples.augment import Augmenter, draw_window
from caffetools.samples.resample import resample
from caffetools.samples.rotation import rotate
from caffetools.samples.transform import Transformer

KEY = 0x0123_4567_89AB_CDEF
RANDOM = np.random.default_rng(8)
PICTURES = RANDOM.integers(0, 256, (4, 3, 12, 17), np.uint8)
FLOATS = (PICTURES / 3 - 40).astype(np.float32)


def augmenter(text: str, phase=TRAIN, crop=0, mean_file=False) -> Augmenter:
    param = text_format.Parse(text, caffe_pb2.AugmentationParameter())
    return Augmenter(param, phase, crop, mean_file, "d")


def transformed(text: str, pictures, samples=None, phase=TRAIN):
    param = text_format.Parse(text, caffe_pb2.TransformationParameter())
    t = Transformer(param, phase, np.float32, np.uint64(KEY))
    shapes = [picture.shape for picture in pictures]
    out = np.full((len(pictures), *t.output_shape(shapes[0])), np.nan, np.float32)
    for shape in shapes:
        t.check_fits(shape, out.shape[1:])
    samples = np.arange(len(pictures)) if samples is None else samples
    t.transform(shapes, list(pictures), pictures[0].dtype, np.asarray(samples, np.uint64), out)
    return out


# ---- what is off changes nothing ---------------------------------------------------------------------------

IDENTITIES = [
    "",
    "resize_short: 12",
    "max_rotation: 0 brightness: 0 contrast: 0 saturation: 0 hue: 0",
    "mixup { }",  # is not for single pictures
]


@pytest.mark.parametrize("phase", [TRAIN, TEST], ids=["train", "test"])
@pytest.mark.parametrize("pictures", [PICTURES, FLOATS], ids=["bytes", "floats"])
@pytest.mark.parametrize("text", IDENTITIES)
def test_identity(text, pictures, phase):
    rest = "crop_size: 9 mirror: true scale: 0.5 mean_value: 90"
    plain = transformed(rest, pictures, phase=phase)
    np.testing.assert_array_equal(
        transformed(f"{rest} augmentation {{ {text} }}", pictures, phase=phase), plain
    )


ALL = (
    "max_rotation: 30 brightness: 0.5 contrast: 0.5 saturation: 0.5 hue: 0.2 cutout { size: 4 } "
    "random_resized_crop { } mixup { }"
)


def test_nothing_is_random_in_tests():
    for crop in ("crop_size: 9", "crop_size: 12"):
        plain = transformed(crop, PICTURES, phase=TEST)
        found = transformed(f"{crop} augmentation {{ {ALL} }}", PICTURES, phase=TEST)
        np.testing.assert_array_equal(found, plain)


# ---- sizes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "short", "expected"),
    [
        ((3, 375, 500), 256, (3, 256, 341)),
        ((3, 500, 375), 256, (3, 341, 256)),
        ((1, 10, 10), 7, (1, 7, 7)),
        ((3, 4, 6), 5, (3, 5, 8)),  # 7.5 rounds up
        ((4, 8, 8), 8, (4, 8, 8)),
    ],
)
@pytest.mark.parametrize("phase", [TRAIN, TEST], ids=["train", "test"])
def test_short_side(size, short, expected, phase):
    a = augmenter(f"resize_short: {short}", phase)
    assert a.size(size) == expected
    assert a.apply(np.zeros(size, np.uint8), 1).shape == expected


def test_crops_are_cut_out_of_the_resized_picture():
    x = np.random.default_rng(2).integers(0, 256, (3, 30, 40), np.uint8)
    y = transformed("crop_size: 12 augmentation { resize_short: 15 }", [x], phase=TEST)[0]
    pillow = Image.fromarray(x.transpose(1, 2, 0)).resize((20, 15), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(y, np.asarray(pillow).transpose(2, 0, 1)[:, 1:13, 4:16])


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_smoothing_takes_means(dtype):
    x = RANDOM.integers(0, 256, (2, 20, 30)).astype(dtype)
    y = resample(x, 8, 10)
    assert y.dtype == dtype
    expected = triangles(20, 8) @ x @ triangles(30, 10).T
    np.testing.assert_allclose(y, expected, atol=1.01 if dtype == np.uint8 else 1e-3)


def triangles(size: int, new_size: int) -> np.ndarray:
    """The weights of old pixels in each of fewer new ones: falling from its centre to its neighbours' centres."""
    ratio = size / new_size
    distance = (np.arange(size) + 0.5) - (np.arange(new_size)[:, np.newaxis] + 0.5) * ratio
    weights = np.maximum(0, 1 - abs(distance) / ratio)
    return weights / weights.sum(1, keepdims=True)


def test_a_box_may_be_off_the_pixels():
    x = np.broadcast_to(np.arange(20, dtype=np.float32), (1, 4, 20)).copy()
    y = resample(x, 4, 4, (2.5, 0, 14.5, 4))
    np.testing.assert_allclose(
        y[0, 0, 1:3], [2.5 + 4.5 - 0.5, 2.5 + 7.5 - 0.5], atol=1e-5
    )  # centres of pixels


# ---- rotation ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [1, 2, 7, 8])
@pytest.mark.parametrize("turns", [-2, -1, 0, 1, 2, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_quarter_turns(turns, side, dtype):
    x = RANDOM.integers(0, 256, (3, side, side)).astype(dtype)
    y = rotate(x, 90 * turns)
    np.testing.assert_allclose(y, np.rot90(x, turns, (1, 2)), atol=0 if dtype == np.uint8 else 1e-4)


@pytest.mark.parametrize("degrees", [-170.0, -30.0, 5.0, 45.0])
def test_rotation_of_any_angle(degrees):
    """Against the formula, with NumPy's own way to continue a picture by its mirror image."""
    x = FLOATS[0]
    height, width = x.shape[1:]
    padded = np.pad(x, [(0, 0), (20, 20), (20, 20)], "symmetric").astype(np.float64)
    h, w = np.mgrid[:height, :width]
    a = np.radians(degrees)
    dh, dw = h - (height - 1) / 2, w - (width - 1) / 2
    # The picture turns counter-clockwise, so what is at (dh, dw) comes from clockwise of it; rows count downwards.
    from_h = (height - 1) / 2 + np.cos(a) * dh + np.sin(a) * dw + 20
    from_w = (width - 1) / 2 - np.sin(a) * dh + np.cos(a) * dw + 20
    i, j = np.floor(from_h).astype(int), np.floor(from_w).astype(int)
    u, v = from_h - i, from_w - j
    expected = (
        padded[:, i, j] * (1 - u) * (1 - v)
        + padded[:, i, j + 1] * (1 - u) * v
        + padded[:, i + 1, j] * u * (1 - v)
        + padded[:, i + 1, j + 1] * u * v
    )
    np.testing.assert_allclose(rotate(x, degrees), expected, rtol=1e-5, atol=1e-4)


def test_angles_are_even_between_the_bounds(monkeypatch):
    angles = []
    monkeypatch.setattr(
        "caffetools.samples.augment.rotate", lambda picture, degrees: angles.append(degrees) or picture
    )
    a = augmenter("max_rotation: 20")
    for sample in range(2000):
        a.apply(PICTURES[0], rng.mix(KEY, sample))
    assert_even(angles, -20, 20)


def assert_even(values, low, high):
    assert low <= min(values)
    assert max(values) <= high
    counts, _ = np.histogram(values, 10, (low, high))
    expected = len(values) / 10
    assert np.all(abs(counts - expected) < 5 * expected**0.5)


# ---- random windows ----------------------------------------------------------------------------------------


def window(text=""):
    return text_format.Parse(text, caffe_pb2.RandomResizedCropParameter())


def test_areas_and_aspects_are_even():
    boxes = [draw_window(window("max_area: 0.5"), 300, 300, rng.mix(KEY, sample)) for sample in range(3000)]
    left, top, right, bottom = np.array(boxes).T
    w, h = right - left, bottom - top
    assert_even((w * h / 300**2).tolist(), 0.08 - 1e-9, 0.5 + 1e-9)
    assert_even(np.log(w / h).tolist(), np.log(0.75) - 1e-6, np.log(4 / 3) + 1e-6)
    assert_even((left / (300 - w)).tolist(), 0, 1)
    assert_even((top / (300 - h)).tolist(), 0, 1)


@pytest.mark.parametrize("size", [(10, 300), (300, 10), (1, 1), (7, 7)])
def test_windows_stay_inside(size):
    for sample in range(200):
        left, top, right, bottom = draw_window(window(), *size, rng.mix(KEY, sample))
        assert 0 <= left < right <= size[1]
        assert 0 <= top < bottom <= size[0]


def test_where_no_window_fits_it_is_in_the_centre():
    param = window("min_area: 1 min_aspect: 2 max_aspect: 3")
    assert draw_window(param, 100, 100, KEY) == (0, 25, 100, 75)
    assert draw_window(param, 10, 100, KEY) == (35, 0, 65, 10)


def test_a_window_is_what_the_net_sees():
    text = "crop_size: 6 augmentation { random_resized_crop { min_area: 0.3 } resize_short: 999 }"
    y = transformed(text, PICTURES, [5, 6, 7, 8])
    for found, picture, sample in zip(y, PICTURES, (5, 6, 7, 8), strict=True):
        box = draw_window(window("min_area: 0.3"), 12, 17, rng.mix(KEY, sample))
        pillow = Image.fromarray(picture.transpose(1, 2, 0)).resize((6, 6), Image.Resampling.BILINEAR, box)
        np.testing.assert_array_equal(found, np.asarray(pillow).transpose(2, 0, 1))


def test_pictures_of_different_sizes_become_one_batch():
    pictures = [np.zeros((3, h, w), np.uint8) for h, w in ((5, 9), (30, 4), (8, 8))]
    assert transformed("crop_size: 8 augmentation { random_resized_crop { } }", pictures).shape == (
        3,
        3,
        8,
        8,
    )


# ---- cutout ------------------------------------------------------------------------------------------------


def test_holes_are_squares_of_zeros_at_even_places():
    x = np.full((1, 10, 10), 7, np.uint8)
    y = transformed("mean_value: 2 augmentation { cutout { size: 3 } }", [x] * 3000)[:, 0]
    assert set(np.unique(y)) == {0, 5}
    area = (y == 0).sum((1, 2))
    assert set(area.tolist()) == {4, 6, 9}  # in a corner, at an edge, inside
    # 8 of 10 centres a side are inside
    assert abs(np.mean(area == 9) - 0.64) < 0.05
    centres = []
    for hole in y[area == 9] == 0:
        rows, columns = np.flatnonzero(hole.any(1)), np.flatnonzero(hole.any(0))
        assert len(rows) == len(columns) == 3
        centres.append(8 * (rows[1] - 1) + columns[1] - 1)
    counts = np.bincount(centres, minlength=64)
    assert np.all(abs(counts - counts.mean()) < 6 * counts.mean() ** 0.5)


def test_several_holes_through_all_channels():
    y = transformed("augmentation { cutout { size: 2 holes: 5 } }", np.full((50, 3, 20, 20), 9, np.uint8))
    assert np.all((y == 0).all(1) | (y == 9).all(1))
    areas = (y[:, 0] == 0).sum((1, 2))
    assert areas.max() == 20
    assert areas.mean() > 15


# ---- order and company -------------------------------------------------------------------------------------


def test_a_sample_does_not_depend_on_its_company():
    text = f"crop_size: 9 mirror: true augmentation {{ {ALL} }}"
    together = transformed(text, PICTURES, [7, 3, 2**40, 0])
    for i, sample in enumerate([7, 3, 2**40, 0]):
        np.testing.assert_array_equal(transformed(text, PICTURES[i : i + 1], [sample])[0], together[i])
    assert not np.array_equal(together, transformed(text, PICTURES, [8, 4, 2**41, 1]))


@pytest.mark.parametrize("make", [bytes, np.ndarray.copy], ids=["bytes", "arrays"])
def test_buffers(make):
    text = "augmentation { max_rotation: 30 }"
    param = text_format.Parse(text, caffe_pb2.TransformationParameter())
    t = Transformer(param, TRAIN, np.float32, np.uint64(KEY))
    out = np.empty(PICTURES.shape, np.float32)
    buffers = [make(picture) for picture in PICTURES]
    t.transform([(3, 12, 17)] * 4, buffers, PICTURES.dtype, np.arange(4, dtype=np.uint64), out)
    np.testing.assert_array_equal(out, transformed(text, PICTURES))


# ---- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "crop", "message"),
    [
        ("max_rotation: 181", 0, "max_rotation must be from 0 to 180"),
        ("max_rotation: -1", 0, "max_rotation must be from 0 to 180"),
        ("max_rotation: nan", 0, "max_rotation must be from 0 to 180"),
        ("brightness: -0.1", 0, "must not be negative"),
        ("saturation: nan", 0, "must not be negative"),
        ("hue: 0.6", 0, "hue must be from 0 to 0.5"),
        ("random_resized_crop { min_area: 0 }", 8, "needs 0 < min_area <= max_area <= 1"),
        ("random_resized_crop { max_area: 1.1 }", 8, "needs 0 < min_area <= max_area <= 1"),
        ("random_resized_crop { min_area: 0.5 max_area: 0.4 }", 8, "needs 0 < min_area <= max_area <= 1"),
        ("random_resized_crop { min_aspect: 2 }", 8, "needs 0 < min_aspect <= max_aspect"),
        ("random_resized_crop { max_aspect: inf }", 8, "needs 0 < min_aspect <= max_aspect"),
        ("random_resized_crop { }", 0, "needs transform_param.crop_size"),
        ("resize_short: 7", 8, "crop_size: 8 is larger than resize_short: 7"),
        ("cutout { size: 0 }", 8, "cutout needs a size and holes above 0"),
        ("cutout { size: 2 holes: 0 }", 8, "cutout needs a size and holes above 0"),
        ("cutout { size: 8 }", 8, "cutout of size: 8 covers all of crop_size: 8"),
        ("mixup { alpha: 0 }", 8, "mixup needs an alpha above 0"),
    ],
)
@pytest.mark.parametrize("phase", [TRAIN, TEST], ids=["train", "test"])
def test_refused(text, crop, message, phase):
    with pytest.raises(FatalError, match=rf"^transform_param.augmentation of layer 'd': .*{message}"):
        augmenter(text, phase, crop)


def test_a_window_has_no_mean_picture():
    with pytest.raises(FatalError, match="random_resized_crop and mean_file contradict"):
        augmenter("random_resized_crop { }", crop=8, mean_file=True)


@pytest.mark.parametrize("text", ["saturation: 0.1", "hue: 0.1"])
def test_colours_need_colour(text):
    with pytest.raises(FatalError, match="saturation and hue need pictures of 3 channels, not 1"):
        augmenter(text).size((1, 5, 5))


def test_a_mean_picture_must_fit_the_resized_picture(tmp_path):
    path = tmp_path / "mean.binaryproto"
    mean = caffe_pb2.BlobProto(num=1, channels=3, height=6, width=9, data=np.zeros(162))
    path.write_bytes(mean.SerializeToString())
    text = f'mean_file: "{path}" augmentation {{ resize_short: %d }}'
    assert transformed(text % 6, PICTURES).shape == (4, 3, 6, 9)
    with pytest.raises(FatalError, match=r"height == data_mean_.height\(\) \(7 vs. 6\)"):
        transformed(text % 7, PICTURES)
