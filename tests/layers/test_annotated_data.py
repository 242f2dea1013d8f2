"""AnnotatedData: pictures on which each box is painted, so that the boxes can be found again in what comes out."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from caffetools.blob import Blob
from caffetools.formats import datum as datum_format
from caffetools.formats import prototxt
from caffetools.formats.db import open_db
from caffetools.glog import FatalError
from caffetools.layer import TRAIN, Context, RandomSource
from caffetools.layers import create_layer
from caffetools.proto import caffe_pb2
from caffetools.samples.box_samplers import draw_parts, meets
from caffetools.samples.boxes import Draws
from caffetools.samples.distort import distort

HEIGHT, WIDTH, COUNT = 60, 80, 6
GROUND = 40


def painted(number: int) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """A picture with one box (left, top, right, bottom) in another colour."""
    picture = np.full((3, HEIGHT, WIDTH), GROUND, np.uint8)
    left, top = 8 + 6 * number, 6 + 4 * number
    box = left, top, left + 20, top + 16
    picture[:, box[1] : box[3], box[0] : box[2]] = 200
    return picture, box


def record(number: int) -> caffe_pb2.AnnotatedDatum:
    picture, box = painted(number)
    result = caffe_pb2.AnnotatedDatum(datum=datum_format.from_array(picture), type=caffe_pb2.AnnotatedDatum.BBOX)
    group = result.annotation_group.add(group_label=1 + number % 3)
    annotation = group.annotation.add(instance_id=number)
    shares = np.array(box) / [WIDTH, HEIGHT, WIDTH, HEIGHT]
    for name, value in zip(("xmin", "ymin", "xmax", "ymax"), shares, strict=True):
        setattr(annotation.bbox, name, value)
    annotation.bbox.difficult = number == 2
    return result


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("annotated") / "db"
    with open_db("lmdb", path, "new") as db:
        for i in range(COUNT):
            db.put(b"%03d" % i, record(i).SerializeToString())
    return path


def batches(source, text, count=1, batch=COUNT):
    """Return pictures and rows of some batches."""
    param = prototxt.parse(
        f'name: "d" type: "AnnotatedData" data_param {{ source: "{source}" backend: LMDB batch_size: {batch} }} {text}',
        caffe_pb2.LayerParameter,
    )
    layer = create_layer(param, Context(TRAIN, random=RandomSource(3)))
    top = [Blob(), Blob()]
    try:
        layer.setup([], top)
        found = []
        for _ in range(count):
            layer.forward([], top)
            found.append((top[0].data.copy(), top[1].data.copy()))
        return found
    finally:
        layer.close()


def check_boxes(pictures, rows, slack=1.0):
    """Each box is where its colour is, within `slack` pixels."""
    assert len(rows)
    for item, _, _, *box, _ in rows:
        bright = pictures[int(item)][0] > (GROUND + 200) / 2
        height, width = bright.shape
        if not bright.any():  # less than half a pixel of it is there
            assert min((box[2] - box[0]) * width, (box[3] - box[1]) * height) <= slack
            continue
        ys, xs = np.nonzero(bright)
        seen = xs.min(), ys.min(), xs.max() + 1, ys.max() + 1
        np.testing.assert_allclose(np.array(box) * [width, height, width, height], seen, atol=slack)


def test_as_they_are(source):
    ((pictures, labels),) = batches(source, "transform_param { mean_value: 10 scale: 0.5 }")
    assert labels.shape == (1, 1, COUNT, 8)
    for i, (picture, row) in enumerate(zip(pictures, labels[0, 0], strict=True)):
        expected, box = painted(i)
        np.testing.assert_allclose(picture, (expected.astype(float) - 10) / 2)
        shares = np.array(box) / [WIDTH, HEIGHT, WIDTH, HEIGHT]
        np.testing.assert_allclose(row, [i, 1 + i % 3, i, *shares, i == 2], rtol=1e-6)


MODES = ["LINEAR", "AREA", "NEAREST", "CUBIC", "LANCZOS4"]
RESIZE = "resize_param { height: 90 width: 70 %s }"
SSD = """transform_param {{ mirror: true {more}
  resize_param {{ height: 100 width: 100 interp_mode: LINEAR interp_mode: NEAREST }}
  emit_constraint {{ emit_type: CENTER }} }}
annotated_data_param {{
  batch_sampler {{ max_sample: 1 max_trials: 1 }}
  batch_sampler {{ sampler {{ min_scale: 0.3 max_scale: 1 min_aspect_ratio: 0.5 max_aspect_ratio: 2 }}
    sample_constraint {{ min_jaccard_overlap: 0.3 }} max_sample: 1 max_trials: 50 }}
  batch_sampler {{ sampler {{ min_scale: 0.3 max_scale: 1 }} sample_constraint {{ max_jaccard_overlap: 1 }}
    max_sample: 1 max_trials: 50 }} }}"""


@pytest.mark.parametrize(
    "text",
    [
        "transform_param { mirror: true }",
        *(f"transform_param {{ {RESIZE % f'interp_mode: {mode}'} }}" for mode in MODES),
        f"transform_param {{ expand_param {{ max_expand_ratio: 3 }} mean_value: 40 {RESIZE % 'interp_mode: AREA'} }}",
        SSD.format(more=""),
        SSD.format(more="expand_param { prob: 0.5 max_expand_ratio: 2 } mean_value: 40"),
    ],
)
def test_boxes_stay_on_what_is_in_them(text, source):
    mean = 40 if "mean_value" in text else 0
    sets = [(pictures + mean, labels[0, 0]) for pictures, labels in batches(source, text, 4)]
    for pictures, rows in sets:
        # A pixel of the old picture may be some of the new one.
        check_boxes(pictures, rows[rows[:, 0] >= 0], slack=7 if "batch_sampler" in text else 1.5)
    if "mirror" in text or "sampler" in text or "expand" in text:
        assert any(not np.array_equal(sets[0][0], pictures) for pictures, _ in sets[1:])


def test_linear_is_that_of_opencv(source):
    cv2 = pytest.importorskip("cv2")
    ((pictures, _),) = batches(source, f"transform_param {{ {RESIZE % ''} }}")
    for i, picture in enumerate(pictures):
        expected = cv2.resize(painted(i)[0].transpose(1, 2, 0), (70, 90))
        np.testing.assert_array_equal(picture, expected.transpose(2, 0, 1))


def test_without_boxes_there_is_a_row(tmp_path):
    with open_db("lmdb", tmp_path / "db", "new") as db:
        empty = record(0)
        empty.ClearField("annotation_group")
        db.put(b"0", empty.SerializeToString())
    ((_, labels),) = batches(tmp_path / "db", "", batch=2)
    np.testing.assert_array_equal(labels, np.full((1, 1, 1, 8), -1))


def test_a_run_that_goes_on_sees_the_same(source):
    text = SSD.format(more="distort_param { brightness_prob: 0.5 brightness_delta: 32 }")
    first, second = batches(source, text, 3), batches(source, text, 3)
    for (a, rows), (b, others) in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(rows, others)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("transform_param { crop_size: 3 }", "batch_sampler"),
        ("transform_param { noise_param { prob: 1 } }", "Noise is not there"),
        ("transform_param { mean_file: 'm' }", "Write mean_value"),
        ("transform_param { resize_param { height: 3 width: 3 resize_mode: FIT_SMALL_SIZE } }", "warped only"),
        ("transform_param { resize_param { height: 3 } }", "width"),
        ("transform_param { expand_param { max_expand_ratio: 2 } }", "resize_param makes them one"),
        ("transform_param { distort_param { contrast_lower: 2 contrast_upper: 1 } }", "drawn from 2 to 1"),
        ("annotated_data_param { label_map_file: 'none' }", "File not found"),
    ],
)
def test_what_is_refused(text, message, source):
    with pytest.raises(FatalError, match=message):
        batches(source, text)


def test_label_maps_are_looked_at(source, tmp_path):
    path = tmp_path / "map.prototxt"
    path.write_text('item { name: "a" label: 1 } item { name: "b" label: 1 }')
    with pytest.raises(FatalError, match="gives the label 1 twice"):
        batches(source, f'annotated_data_param {{ label_map_file: "{path}" }}')


def test_records_that_have_no_boxes(tmp_path):
    with open_db("lmdb", tmp_path / "db", "new") as db:
        plain = record(0)
        plain.ClearField("type")
        db.put(b"0", plain.SerializeToString())
    with pytest.raises(FatalError, match=r"set annotated_data_param .* \(record '0' of"):
        batches(tmp_path / "db", "")
    assert len(batches(tmp_path / "db", "annotated_data_param { anno_type: BBOX }")) == 1


def test_the_database_of_the_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[2] / "docs" / "forks.md").read_text(encoding="utf-8")
    exec(re.search(r"^```python\n(.*?)^```", page, re.M | re.S)[1], {})
    ((pictures, labels),) = batches("trainval_lmdb", "", batch=1)
    assert pictures.shape == (1, 3, 300, 400)
    np.testing.assert_allclose(labels.ravel(), [0, 7, 0, 0.1, 0.2, 0.6, 0.9, 0], rtol=1e-6)


def test_data_layers_say_whose_records_these_are(source):
    text = f'name: "d" type: "Data" data_param {{ source: "{source}" backend: LMDB batch_size: 1 }}'
    layer = create_layer(prototxt.parse(text, caffe_pb2.LayerParameter), Context(TRAIN))
    with pytest.raises(FatalError, match="read it with an AnnotatedData layer"):
        layer.setup([], [Blob(), Blob()])
    layer.close()


BOXES = np.array([[0.1, 0.1, 0.5, 0.4], [0.6, 0.5, 0.9, 0.9]])


def shares(part, box):
    """Intersection over union, share of the part, share of the box."""
    w = max(0.0, min(part[2], box[2]) - max(part[0], box[0]))
    h = max(0.0, min(part[3], box[3]) - max(part[1], box[1]))
    a, b = (part[2] - part[0]) * (part[3] - part[1]), (box[2] - box[0]) * (box[3] - box[1])
    return w * h / (a + b - w * h), w * h / a, w * h / b


@pytest.mark.parametrize("name", ["jaccard_overlap", "sample_coverage", "object_coverage"])
@pytest.mark.parametrize(("edge", "limit"), [("min", 0.3), ("max", 0.05)])
def test_constraints(name, edge, limit):
    text = f"""sampler {{ min_scale: 0.2 max_scale: 0.9 min_aspect_ratio: 0.5 max_aspect_ratio: 2 }}
        sample_constraint {{ {edge}_{name}: {limit} }} max_trials: 400"""
    sampler = prototxt.parse(text, caffe_pb2.BatchSampler)
    parts = draw_parts([sampler], BOXES, Draws(5))
    assert 5 < len(parts) < 400
    column = ["jaccard_overlap", "sample_coverage", "object_coverage"].index(name)
    for part in parts:
        values = [shares(part, box)[column] for box in BOXES]
        assert (max(values) >= limit) if edge == "min" else (min(values) <= limit)
    assert (parts[:, :2] >= -1e-9).all() and (parts[:, 2:] <= 1 + 1e-9).all()
    sizes = parts[:, 2:] - parts[:, :2]
    aspects = sizes[:, 0] / sizes[:, 1]
    assert 0.5 - 1e-9 <= aspects.min() < 0.9 and 1.1 < aspects.max() <= 2 + 1e-9
    assert sizes.prod(axis=1).min() >= 0.04 - 1e-9 and sizes.prod(axis=1).max() <= 0.81 + 1e-9


def test_as_many_samples_as_wanted():
    sampler = prototxt.parse("max_sample: 3 max_trials: 9", caffe_pb2.BatchSampler)
    np.testing.assert_allclose(draw_parts([sampler], BOXES, Draws(1)), np.tile([0, 0, 1, 1], (3, 1)))


def test_one_box_has_to_be_within_all_limits():
    limits = prototxt.parse("min_object_coverage: 0.9 min_sample_coverage: 0.5", caffe_pb2.SampleConstraint)
    assert meets((0.1, 0.1, 0.5, 0.4), BOXES, limits)
    assert not meets((0, 0, 1, 1), BOXES, limits)


class Fixed:
    """Draws that always happen, with the value in the middle of the upper half."""

    def uniform(self, low=0.0, high=1.0):
        return low + 0.75 * (high - low)

    def happens(self, probability):
        return probability > 0.5


def test_colours_are_those_of_opencv():
    cv2 = pytest.importorskip("cv2")
    picture = np.random.default_rng(1).integers(0, 256, (3, 20, 30), np.uint8)
    param = prototxt.parse(
        "saturation_prob: 1 saturation_lower: 0.5 saturation_upper: 0.9 hue_prob: 1 hue_delta: 18",
        caffe_pb2.DistortionParameter,
    )
    hsv = cv2.cvtColor(picture.transpose(1, 2, 0).astype(np.float32) / 255, cv2.COLOR_BGR2HSV)
    hsv[..., 0] = (hsv[..., 0] + 2 * 9) % 360
    hsv[..., 1] *= 0.8
    expected = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR).transpose(2, 0, 1) * 255
    np.testing.assert_allclose(distort(picture, param, Fixed()), expected, atol=1)


def test_brightness_then_contrast():
    picture = np.array([[[0, 100, 231]]], np.uint8)
    param = prototxt.parse(
        "brightness_prob: 1 brightness_delta: 40 contrast_prob: 1 contrast_lower: 0.5 contrast_upper: 1.1",
        caffe_pb2.DistortionParameter,
    )
    np.testing.assert_array_equal(distort(picture, param, Fixed()), [[[19, 114, 238]]])  # (x + 20) * 0.95


def test_channels_in_another_order():
    picture = np.arange(3, dtype=np.uint8).reshape(3, 1, 1)
    param = caffe_pb2.DistortionParameter(random_order_prob=1)
    orders = {tuple(distort(picture, param, Draws(seed)).ravel()) for seed in range(60)}
    assert len(orders) == 6
