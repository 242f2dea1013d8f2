"""Data layers with augmentation: whatever the threads, resumed exactly, and errors that name what they are about."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format
from PIL import Image

from caffetools.blob import Blob
from caffetools.engine.cpu.rng import RandomSource
from caffetools.formats.db import open_db
from caffetools.glog import FatalError
from caffetools.layer import TEST, TRAIN, Context
from caffetools.layers import create_layer, layer_class
from caffetools.net import Net
from caffetools.proto import caffe_pb2

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "augmentation.md"
PICTURES = np.random.default_rng(21).integers(0, 256, (10, 14, 17, 3), np.uint8)  # as files have them: RGB
EVERYTHING = """crop_size: 8 mirror: true mean_value: 100 scale: 0.5 augmentation {
  max_rotation: 30 random_resized_crop { } brightness: 0.3 contrast: 0.3 saturation: 0.3 hue: 0.1
  cutout { size: 3 } mixup { alpha: 0.5 classes: 10 } }"""
SHORT = "crop_size: 8 augmentation { resize_short: 10 brightness: 0.2 mixup { } }"
LAYERS = {
    "raw": 'type: "Data" data_param { source: "raw" backend: LMDB batch_size: 3 %s }',
    "encoded": 'type: "Data" data_param { source: "encoded" backend: LMDB batch_size: 3 %s }',
    "list": 'type: "ImageData" image_data_param { source: "list.txt" batch_size: 3 shuffle: true } data_param { %s }',
}


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    with open_db("lmdb", folder / "raw", "new") as raw, open_db("lmdb", folder / "encoded", "new") as encoded:
        for i, picture in enumerate(PICTURES):
            file = io.BytesIO()
            Image.fromarray(picture).save(file, "PNG")
            (folder / f"{i}.png").write_bytes(file.getvalue())
            pixels = picture[:, :, ::-1].transpose(2, 0, 1).tobytes()
            datum = caffe_pb2.Datum(channels=3, height=14, width=17, data=pixels, label=i)
            raw.put(b"key%d" % i, datum.SerializeToString())
            datum = caffe_pb2.Datum(data=file.getvalue(), label=i, encoded=True)
            encoded.put(b"key%d" % i, datum.SerializeToString())
    (folder / "list.txt").write_text("".join(f"{i}.png {i}\n" for i in range(10)))
    return folder


@pytest.fixture
def start(sources, monkeypatch):
    """Makes layers that are set up, with `next()` for copies of their next tops, and closes them at the end."""
    monkeypatch.chdir(sources)
    made = []

    def make(kind, transform, phase=TRAIN, seed=1, threads=1, tops=2):
        monkeypatch.setattr("caffetools.samples.prefetch.processors", lambda: threads)
        text = LAYERS[kind] % f"prefetch: {threads + 1}" + f' name: "d" transform_param {{ {transform} }}'
        context = Context(phase=phase, random=RandomSource(seed))
        param = text_format.Parse(text, caffe_pb2.LayerParameter())
        layer = layer_class(param.type)(param, context)
        made.append(layer)
        top = [Blob() for _ in range(tops)]
        layer.setup([], top)
        layer.top = top

        def following():
            layer.forward([], top)
            return [blob.data.copy() for blob in top]

        layer.next = following
        return layer

    yield make
    for layer in made:
        layer.close()


def assert_same(found, expected):
    for a, b in zip(found, expected, strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("transform", [EVERYTHING, SHORT], ids=["everything", "short"])
@pytest.mark.parametrize("kind", LAYERS)
def test_threads_change_nothing(kind, transform, start):
    one, three, other = (
        start(kind, transform, threads=threads, seed=seed) for threads, seed in ((1, 1), (3, 1), (3, 2))
    )
    expected = [one.next() for _ in range(9)]
    assert (one.threads, three.threads) == (1, 3)
    assert_same([three.next() for _ in range(9)], expected)
    assert not np.array_equal(other.next()[0], expected[0][0])


@pytest.mark.parametrize("kind", LAYERS)
def test_resume_is_exact(kind, start):
    layer = start(kind, EVERYTHING)
    for _ in range(4):
        layer.next()
    state = json.loads(json.dumps(layer.get_state()))
    expected = [layer.next() for _ in range(6)]
    other = start(kind, EVERYTHING, seed=2, threads=2)
    other.next()
    other.set_state(state)
    assert_same([other.next() for _ in range(6)], expected)


@pytest.mark.parametrize("kind", LAYERS)
def test_tops_are_known_before_the_first_batch(kind, start):
    layer = start(kind, EVERYTHING)
    assert [blob.shape for blob in layer.top] == [(3, 3, 8, 8), (3, 10)]
    assert [values.shape for values in layer.next()] == [(3, 3, 8, 8), (3, 10)]


@pytest.mark.parametrize("kind", LAYERS)
def test_shares_of_a_batch(kind, start):
    _, label = start(kind, EVERYTHING).next()
    np.testing.assert_allclose(label.sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(np.sort(label.max(0))[:7], 0)  # of ten classes a batch of three has three
    assert np.all(np.count_nonzero(label, axis=1) <= 2)


def test_records_and_files_are_treated_alike(start):
    assert_same([start("raw", EVERYTHING).next()], [start("encoded", EVERYTHING).next()])


@pytest.mark.parametrize("kind", ["raw", "encoded"])
def test_in_tests_nothing_is_random(kind, start):
    data, label = start(kind, EVERYTHING.replace("mirror: true", ""), phase=TEST).next()
    centres = PICTURES[:3, 3:11, 4:12, ::-1].transpose(0, 3, 1, 2).astype(np.float32)
    np.testing.assert_array_equal(data, (centres - 100) / 2)
    np.testing.assert_array_equal(label, np.eye(10)[:3])


@pytest.mark.parametrize("phase", [TRAIN, TEST], ids=["train", "test"])
def test_the_example_of_the_documentation(phase, sources, monkeypatch):
    monkeypatch.chdir(sources)
    text = re.search(r"```\nlayer \{(.*?)\}\n```", DOCUMENTATION.read_text(encoding="utf-8"), re.DOTALL)[1]
    param = text_format.Parse(text.replace('"train_lmdb"', '"raw"'), caffe_pb2.LayerParameter())
    layer = layer_class(param.type)(param, Context(phase, random=RandomSource(1)))
    top = [Blob(), Blob()]
    try:
        layer.setup([], top)
        layer.forward([], top)
        assert [blob.shape for blob in top] == [(64, 3, 224, 224), (64,)]
        first, again = top[0].data[0], top[0].data[10]  # the database has ten records
        same = np.array_equal(first, again) or np.array_equal(first, again[:, :, ::-1])  # mirrored in tests too
        assert same == (phase == TEST)
    finally:
        layer.close()


MIXED = SHORT.replace("mixup { }", "mixup { classes: 5 }")


@pytest.mark.parametrize(
    ("kind", "where"),
    [("raw", "record 'key5' of raw"), ("encoded", "record 'key5' of encoded"), ("list", r"picture \d.png")],
)
def test_a_label_that_is_no_class_is_named(kind, where, start):
    layer = start(kind, MIXED)
    with pytest.raises(FatalError, match=rf"the label \d is none of mixup's classes: 5 \({where}\)"):
        for _ in range(4):
            layer.next()


@pytest.mark.parametrize("kind", LAYERS)
def test_errors_name_the_layer(kind, start):
    with pytest.raises(FatalError, match="augmentation of layer 'd': hue must be from 0 to 0.5"):
        start(kind, "augmentation { hue: 2 }")


def test_mixup_needs_labels(start):
    with pytest.raises(FatalError, match="mixup needs a second top, for the labels .layer 'd'"):
        start("raw", SHORT, tops=1)


REFUSED = [
    (
        'type: "ImageData" image_data_param { source: "list.txt" new_height: 9 new_width: 9 } '
        "transform_param { augmentation { resize_short: 8 } }",
        "Give new_height and new_width or resize_short, not both",
    ),
    (
        'type: "WindowData" window_data_param { source: "none" } transform_param { augmentation { hue: 0.1 } }',
        "WindowData does not read it. Remove it: windows are warped and flipped as window_data_param and mirror say",
    ),
    (
        'type: "MemoryData" memory_data_param { batch_size: 1 channels: 3 height: 8 width: 8 } '
        "transform_param { augmentation { mixup { } } }",
        "MemoryData has no mixup",
    ),
]


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_layers_that_cannot_do_it(text, message, sources, monkeypatch):
    monkeypatch.chdir(sources)
    param = text_format.Parse(text + ' name: "d"', caffe_pb2.LayerParameter())
    with pytest.raises(FatalError, match=f"{message} .layer 'd'"):
        create_layer(param, Context()).setup([], [Blob(), Blob()])


@pytest.mark.parametrize(
    ("mixup", "loss"),
    [("", "SoftmaxWithLoss"), ("classes: 10", "SigmoidCrossEntropyLoss")],
    ids=["integer", "soft"],
)
def test_nets_that_take_mixed_labels(mixup, loss, sources, monkeypatch):
    monkeypatch.chdir(sources)
    transform = f"transform_param {{ crop_size: 8 augmentation {{ mixup {{ {mixup} }} }} }}"
    text = f"""
    layer {{ name: "d" top: "data" top: "label" {LAYERS["raw"] % ""} {transform} }}
    layer {{ name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param {{ num_output: 10 }} }}
    layer {{ name: "loss" type: "{loss}" bottom: "ip" bottom: "label" top: "loss" }}"""
    net = Net(text_format.Parse(text, caffe_pb2.NetParameter()), Context(random=RandomSource(1)))
    try:
        # Weights of zero: every class has the same chance, with whatever label.
        expected = np.log(10) if loss == "SoftmaxWithLoss" else 10 * np.log(2)
        assert net.forward() == pytest.approx(expected, rel=1e-5)
        net.backward()
        assert np.any(net.param_diff)
    finally:
        net.close()
