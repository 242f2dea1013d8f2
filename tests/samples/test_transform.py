"""The transformer against its formula in NumPy and the random numbers of plain Python."""

from __future__ import annotations

import numpy as np
import pytest
from google.protobuf import text_format

from caffetools.engine.cpu import rng
from caffetools.glog import FatalError
from caffetools.layer import TEST, TRAIN
from caffetools.proto import caffe_pb2
from caffetools.samples.transform import Transformer

KEY = 0x1234_5678_9ABC_DEF0
RANDOM = np.random.default_rng(5)
PICTURES = RANDOM.integers(0, 256, (6, 3, 11, 14), np.uint8)
MEAN = RANDOM.random((3, 11, 14), np.float32) * 200


def transformer(text: str, phase=TEST, dtype=np.float32, noun="datum"):
    param = text_format.Parse(text, caffe_pb2.TransformationParameter())
    return Transformer(param, phase, dtype, np.uint64(KEY), noun)


def apply(t: Transformer, pictures, samples=None):
    samples = np.arange(len(pictures)) if samples is None else samples
    shapes = [picture.shape for picture in pictures]
    expected = t.output_shape(shapes[0])
    for shape in shapes:
        t.check_fits(shape, expected)
    out = np.full((len(pictures), *expected), np.nan, t.dtype)
    buffers = [np.ascontiguousarray(picture) for picture in pictures]
    t.transform(shapes, buffers, pictures[0].dtype, np.asarray(samples, np.uint64), out)
    return out


def draws(sample: int) -> tuple[int, int, int]:
    """The three random numbers of a sample: mirror, top, left."""
    key = rng.mix(KEY, sample)
    return tuple(rng.mix(key, i) for i in range(3))


@pytest.fixture
def mean_file(tmp_path):
    path = tmp_path / "mean.binaryproto"
    proto = caffe_pb2.BlobProto(num=1, channels=3, height=11, width=14, data=MEAN.ravel())
    path.write_bytes(proto.SerializeToString())
    return path


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
@pytest.mark.parametrize("crop", [0, 7, 8, 11], ids="crop{}".format)
@pytest.mark.parametrize("mean", ["none", "one value", "three values", "picture"])
def test_values(mean, crop, kind, dtype, mean_file):
    text, m = {
        "none": ("", 0),
        "one value": ("mean_value: 103.5", 103.5),
        "three values": ("mean_value: 104 mean_value: 117.25 mean_value: 9", [[[104]], [[117.25]], [[9]]]),
        "picture": (f'mean_file: "{mean_file}"', MEAN),
    }[mean]
    x = PICTURES.astype(kind)
    y = apply(transformer(f"scale: 0.017 crop_size: {crop} {text}", dtype=dtype), x)
    expected = (x.astype(dtype) - np.asarray(m, dtype)) * dtype(np.float32(0.017))
    if crop:
        top, left = (11 - crop) // 2, (14 - crop) // 2
        expected = expected[:, :, top : top + crop, left : left + crop]
    np.testing.assert_array_equal(y, expected)


def test_nan_and_infinity_pass():
    x = np.array([np.nan, np.inf, -np.inf, 1], np.float32).reshape(1, 1, 2, 2)
    np.testing.assert_array_equal(apply(transformer("scale: 2"), x).ravel(), [np.nan, np.inf, -np.inf, 2])


@pytest.mark.parametrize("mean", ["", "mean_file"])
def test_random_crops_in_training(mean, mean_file):
    text = f'mean_file: "{mean_file}"' if mean else ""
    x = np.repeat(PICTURES[:1], 40, 0)
    samples = np.arange(1000, 1040)
    y = apply(transformer(f"crop_size: 7 {text}", TRAIN), x, samples)
    centred = PICTURES[0] - MEAN if mean else PICTURES[0]
    for picture, sample in zip(y, samples, strict=True):
        _, high, wide = draws(int(sample))
        top, left = (high >> 32) * 5 >> 32, (wide >> 32) * 8 >> 32
        np.testing.assert_array_equal(picture, centred[:, top : top + 7, left : left + 7])


def test_crops_cover_every_offset_evenly():
    x = np.arange(4 * 5, dtype=np.float32).reshape(1, 1, 4, 5)
    first = apply(transformer("crop_size: 3", TRAIN), np.repeat(x, 6000, 0))[:, 0, 0, 0]
    offsets, counts = np.unique(first, return_counts=True)
    assert offsets.tolist() == [0, 1, 2, 5, 6, 7]
    assert np.all(abs(counts - 1000) < 6 * 1000**0.5)


@pytest.mark.parametrize("phase", [TRAIN, TEST], ids=["train", "test"])
@pytest.mark.parametrize("width", [14, 13])
def test_mirror(width, phase):
    x = np.repeat(PICTURES[:1, :, :, :width], 100, 0)
    y = apply(transformer("mirror: true", phase), x)
    flipped = [draws(i)[0] >> 63 == 1 for i in range(100)]
    for picture, flip in zip(y, flipped, strict=True):
        np.testing.assert_array_equal(picture, x[0, :, :, ::-1] if flip else x[0])
    assert 30 < sum(flipped) < 70


def test_mirror_flips_the_crop_and_not_the_mean(mean_file):
    t = transformer(f'mirror: true crop_size: 7 mean_file: "{mean_file}"')
    y = apply(t, np.repeat(PICTURES[:1], 20, 0))
    window = (PICTURES[0] - MEAN)[:, 2:9, 3:10]
    for i in range(20):
        np.testing.assert_array_equal(y[i], window[:, :, ::-1] if draws(i)[0] >> 63 else window)


def test_a_sample_does_not_depend_on_its_company():
    t = transformer("mirror: true crop_size: 5 mean_value: 3", TRAIN)
    together = apply(t, PICTURES, [7, 3, 900, 2**40, 0, 1])
    for i, sample in enumerate([7, 3, 900, 2**40, 0, 1]):
        np.testing.assert_array_equal(apply(t, PICTURES[i : i + 1], [sample])[0], together[i])


def test_pictures_of_different_sizes_with_a_crop():
    pictures = [PICTURES[0], PICTURES[1, :, :9, :8], PICTURES[2, :, 1:]]
    y = apply(transformer("crop_size: 7"), pictures)
    for picture, result in zip(pictures, y, strict=True):
        top, left = (picture.shape[1] - 7) // 2, (picture.shape[2] - 7) // 2
        np.testing.assert_array_equal(result, picture[:, top : top + 7, left : left + 7])


def test_mean_file_of_three_axes(tmp_path):
    proto = caffe_pb2.BlobProto(data=MEAN.ravel())
    proto.shape.dim[:] = MEAN.shape
    path = tmp_path / "mean.binaryproto"
    path.write_bytes(proto.SerializeToString())
    np.testing.assert_array_equal(apply(transformer(f'mean_file: "{path}"'), PICTURES), PICTURES - MEAN)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("crop_size: 12", r"Check failed: datum_height >= crop_size \(11 vs. 12\)"),
        ("mean_value: 1 mean_value: 2", "Specify either 1 mean_value or as many as channels: 3"),
        ("mean_value: 1 mean_file: '{mean}'", "Cannot specify mean_file and mean_value at the same time"),
        ("force_color: true force_gray: true", "cannot set both force_color and force_gray"),
        ("mean_file: 'nowhere.binaryproto'", "nowhere.binaryproto"),
    ],
)
def test_refused(text, message, mean_file):
    with pytest.raises(FatalError, match=message):
        apply(transformer(text.format(mean=mean_file)), PICTURES)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((0, 4, 4), r"Check failed: img_channels > 0 \(0 vs. 0\)"),
        ((1, 3, 4), r"Check failed: img_height >= crop_size \(3 vs. 4\)"),
        ((1, 4, 3), r"Check failed: img_width >= crop_size \(3 vs. 4\)"),
    ],
)
def test_a_picture_that_cannot_be_cropped(shape, message):
    with pytest.raises(FatalError, match=message):
        transformer("crop_size: 4", noun="img").output_shape(shape)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 11, 14), r"channels == datum_channels \(3 vs. 1\)"),
        ((3, 10, 14), r"height <= datum_height \(11 vs. 10\)"),
        ((3, 12, 14), r"datum_height == height \(12 vs. 11\)"),
        ((3, 11, 13), r"width <= datum_width \(14 vs. 13\)"),
        ((3, 11, 15), r"datum_width == width \(15 vs. 14\)"),
    ],
)
def test_a_picture_that_does_not_fit_the_batch(shape, message):
    with pytest.raises(FatalError, match=message):
        transformer("").check_fits(shape, (3, 11, 14))


def test_a_picture_that_does_not_fit_the_mean(mean_file):
    with pytest.raises(FatalError, match=r"datum_height == data_mean_.height\(\) \(12 vs. 11\)"):
        transformer(f'mean_file: "{mean_file}" crop_size: 5').check_fits((3, 12, 14), (3, 5, 5))
