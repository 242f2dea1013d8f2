"""`caffe visualize`: the values that it shows, and its files."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from google.protobuf import text_format
from PIL import Image

from caffetools.formats import binary, hdf5
from caffetools.formats import blob as blob_format
from caffetools.glog import FatalError
from caffetools.proto import caffe_pb2
from caffetools.tools.visualize import activations, read_blobs, visualize
from tests.cli.cli_run import run

NET = """
name: "tiny"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 4 dim: 3 dim: 6 dim: 8 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 5 kernel_size: 3 } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "ip1" type: "InnerProduct" bottom: "conv1" top: "ip1" inner_product_param { num_output: 7 } }
layer { name: "silence" type: "Silence" bottom: "ip1" }
"""
SHAPES = {"conv1": [(5, 3, 3, 3), (5,)], "ip1": [(7, 120), (7,)]}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A net with random weights, and a picture of the size of its input."""
    rng = np.random.default_rng(3)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.prototxt").write_text(NET)
    net = text_format.Parse(NET, caffe_pb2.NetParameter())
    for layer in net.layer:
        for shape in SHAPES.get(layer.name, ()):
            blob_format.fill_proto(layer.blobs.add(), rng.normal(size=shape).astype(np.float32))
    binary.write("net.caffemodel", net)
    Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8)).save(tmp_path / "picture.png")
    return tmp_path


def picture_bgr():
    return np.asarray(Image.open("picture.png")).transpose(2, 0, 1)[::-1]


def convolved(picture):
    """The first layer's outputs for a picture (3, 6, 8), by the definition."""
    weights, bias = read_blobs("net.caffemodel")["conv1"]
    windows = np.lib.stride_tricks.sliding_window_view(picture.astype(np.float64), (3, 3), axis=(1, 2))
    return np.einsum("chwij,ncij->nhw", windows, weights.astype(np.float64)) + bias[:, None, None]


@pytest.mark.parametrize(
    ("flags", "transformed"),
    [
        ({}, lambda x: x),
        ({"scale": "0.5"}, lambda x: x * 0.5),
        ({"mean": "10,20,30"}, lambda x: x - np.array([10, 20, 30]).reshape(3, 1, 1)),
        ({"mean": "7", "scale": "0.25"}, lambda x: (x - 7.0) * 0.25),
    ],
)
def test_activations(folder, flags, transformed):
    pixels, values = activations("net.prototxt", "net.caffemodel", "conv1", "picture.png", **flags)
    np.testing.assert_array_equal(pixels, picture_bgr())
    np.testing.assert_allclose(values, convolved(transformed(picture_bgr())), rtol=1e-4, atol=1e-3)


def test_activations_of_a_layer_in_place(folder):
    _, values = activations("net.prototxt", "net.caffemodel", "relu1", "picture.png")
    np.testing.assert_allclose(values, np.maximum(convolved(picture_bgr()), 0), rtol=1e-4, atol=1e-3)


def test_a_mean_picture_is_cut_in_its_centre(folder):
    mean = np.arange(3 * 8 * 12, dtype=np.float32).reshape(1, 3, 8, 12)
    proto = caffe_pb2.BlobProto()
    blob_format.fill_proto(proto, mean)
    binary.write("mean.binaryproto", proto)
    _, values = activations("net.prototxt", "net.caffemodel", "conv1", "picture.png", mean="mean.binaryproto")
    expected = convolved(picture_bgr() - mean[0, :, 1:7, 2:10])
    np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-3)


def test_the_data_layer_says_mean_and_scale(folder):
    text = NET.replace(
        'type: "Input" top: "data" input_param { shape { dim: 4 dim: 3 dim: 6 dim: 8 } } }',
        'type: "MemoryData" top: "data" top: "label" '
        "memory_data_param { batch_size: 4 channels: 3 height: 6 width: 8 } "
        "transform_param { mean_value: 3 mean_value: 2 mean_value: 1 scale: 0.5 } }",
    )
    assert "MemoryData" in text
    (folder / "net.prototxt").write_text(text)
    _, values = activations("net.prototxt", "net.caffemodel", "conv1", "picture.png")
    expected = convolved((picture_bgr() - np.array([3, 2, 1]).reshape(3, 1, 1)) * 0.5)
    np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-3)


def test_weights_of_both_formats(folder):
    blobs = read_blobs("net.caffemodel")
    hdf5.write_net("net.caffemodel.h5", {name: dict(enumerate(its)) for name, its in blobs.items() if its})
    again = read_blobs("net.caffemodel.h5")
    for name, shapes in SHAPES.items():
        for mine, other, shape in zip(blobs[name], again[name], shapes, strict=True):
            assert mine.shape == shape
            np.testing.assert_array_equal(mine, other)


def test_matrices_of_old_files(folder):
    net = caffe_pb2.NetParameter()
    layer = net.layer.add(name="ip", type="InnerProduct")
    for height, width in ((2, 3), (1, 2)):
        values = range(height * width)
        layer.blobs.add(num=1, channels=1, height=height, width=width, data=values)
    binary.write("old.caffemodel", net)
    weights, bias = read_blobs("old.caffemodel")["ip"]
    np.testing.assert_array_equal(weights, [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(bias, [0, 1])


@pytest.mark.parametrize("layer", ["conv1", "ip1", "relu1"])
def test_files(folder, layer):
    pytest.importorskip("matplotlib")
    path = visualize("net.caffemodel", layer, "net.prototxt", picture="picture.png")
    assert str(path) == f"{layer}.png"
    pixels = np.asarray(Image.open(path).convert("RGB"))
    height, width, _ = pixels.shape
    assert (width, 700 < height < 2000) == (1500, True)
    assert (pixels != 255).any(axis=2).mean() > 0.2


def test_colours_of_the_filters_are_in_the_picture(folder):
    pytest.importorskip("matplotlib")
    pixels = np.asarray(Image.open(visualize("net.caffemodel", "conv1")).convert("RGB")).reshape(-1, 3)
    weights = read_blobs("net.caffemodel")["conv1"][0].astype(np.float64)
    expected = 255 * (
        0.5 + weights[:, ::-1].transpose(0, 2, 3, 1).reshape(-1, 3) / (2 * np.abs(weights).max())
    )
    shown = np.unique(pixels, axis=0)
    for colour in expected:
        assert np.abs(shown - colour).max(axis=1).min() <= 1


def test_weights_that_are_not_finite(folder):
    pytest.importorskip("matplotlib")
    net = binary.read("net.caffemodel", caffe_pb2.NetParameter)
    net.layer[1].blobs[0].data[0] = np.nan
    binary.write("bad.caffemodel", net)
    path = visualize("bad.caffemodel", "conv1", output="bad.svg")
    assert ", 1 not finite" in path.read_text()  # beside the outlines of its letters


def test_command(folder):
    pytest.importorskip("matplotlib")
    result = run(
        "caffe", "visualize", "--weights=net.caffemodel", "--layer=ip1", "--output=x.svg", cwd=folder
    )
    assert (result.returncode, result.stdout) == (0, "Saved x.svg\n"), result.stderr
    assert ElementTree.parse(folder / "x.svg").getroot().tag.endswith("svg")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"layer": "conv2"}, "'conv2' is not a layer of net.caffemodel: did you mean 'conv1'"),
        ({"layer": "relu1"}, r"no weights; give --image .*with weights: conv1, ip1"),
        ({"layer": "conv1", "picture": "picture.png"}, "prototxt with --model"),
        (
            {"layer": "x", "picture": "picture.png", "model": "net.prototxt"},
            "'x' is not a layer of net.prototxt",
        ),
        ({"layer": "silence", "picture": "picture.png", "model": "net.prototxt"}, "has no top"),
        ({"layer": "conv1", "output": "x.jpeg"}, "ends in .png or .svg"),
        (
            {"layer": "conv1", "picture": "picture.png", "model": "net.prototxt", "mean": "1,2"},
            "2 numbers for 3 channels",
        ),
        (
            {"layer": "conv1", "picture": "picture.png", "model": "net.prototxt", "mean": "no.binaryproto"},
            "neither a file nor numbers",
        ),
    ],
)
def test_refused(folder, arguments, words):
    pytest.importorskip("matplotlib")
    with pytest.raises(FatalError, match=words):
        visualize("net.caffemodel", **arguments)
