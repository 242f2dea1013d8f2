"""Nets from the wild, with the fields of old files: against formulas, and against OpenCV's reader of Caffe files.

OpenCV dropped that reader in version 5. To compare a net of your own with it, put `x.prototxt` and `x.caffemodel` side
by side and set CAFFE_ZOO_NET=x, with the folder.
"""

from __future__ import annotations

import os

import numpy as np
import pytest
from google.protobuf import text_format
from numpy.lib.stride_tricks import sliding_window_view

import caffetools.pycaffe as caffe
from caffetools.proto import caffe_pb2

# The second stage of a face detector as it was published in 2016, with fewer channels: fields for the input's size,
# propagate_down, PReLU in place, two heads that share their trunk.
FACES = """
name: "RNet"
input: "data"
input_dim: 1 input_dim: 3 input_dim: 24 input_dim: 24
layer {
  name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  param { lr_mult: 0 decay_mult: 0 } param { lr_mult: 0 decay_mult: 0 }
  convolution_param { num_output: 6 kernel_size: 3 stride: 1 weight_filler { type: "xavier" } }
}
layer { name: "prelu1" type: "PReLU" bottom: "conv1" top: "conv1" propagate_down: true }
layer {
  name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1" pooling_param { pool: MAX kernel_size: 3 stride: 2 }
}
layer {
  name: "conv2" type: "Convolution" bottom: "pool1" top: "conv2"
  convolution_param { num_output: 8 kernel_size: 3 stride: 1 weight_filler { type: "xavier" } }
}
layer { name: "prelu2" type: "PReLU" bottom: "conv2" top: "conv2" propagate_down: true }
layer {
  name: "conv4" type: "InnerProduct" bottom: "conv2" top: "conv4"
  inner_product_param { num_output: 16 weight_filler { type: "xavier" } }
}
layer { name: "prelu4" type: "PReLU" bottom: "conv4" top: "conv4" }
layer {
  name: "conv5-1" type: "InnerProduct" bottom: "conv4" top: "conv5-1"
  inner_product_param { num_output: 2 weight_filler { type: "xavier" } }
}
layer {
  name: "conv5-2" type: "InnerProduct" bottom: "conv4" top: "conv5-2"
  inner_product_param { num_output: 4 weight_filler { type: "xavier" } }
}
layer { name: "prob1" type: "Softmax" bottom: "conv5-1" top: "prob1" }
"""


def legacy(model: bytes) -> bytes:
    """Return a caffemodel whose blobs have the dimensions of old files: always four, ones on the left."""
    net = caffe_pb2.NetParameter.FromString(model)
    for layer in net.layer:
        for blob in layer.blobs:
            sizes = [1] * (4 - len(blob.shape.dim)) + list(blob.shape.dim)
            blob.num, blob.channels, blob.height, blob.width = sizes
            blob.ClearField("shape")
    return net.SerializeToString()


def v1(text: str, model: bytes) -> tuple[str, bytes]:
    """Return prototxt and caffemodel as V1 layers, whose types are enumerations and whose rates stand in the layer."""
    return text_format.MessageToString(v1_net(text_format.Parse(text, caffe_pb2.NetParameter()))), v1_net(
        caffe_pb2.NetParameter.FromString(legacy(model))
    ).SerializeToString()


def v1_net(net):
    old = caffe_pb2.NetParameter(name=net.name, input=net.input, input_dim=net.input_dim)
    types = {
        "Convolution": "CONVOLUTION", "Pooling": "POOLING", "InnerProduct": "INNER_PRODUCT", "ReLU": "RELU",
        "Softmax": "SOFTMAX",
    }  # fmt: skip
    for layer in net.layer:
        if layer.type not in types:
            continue
        new = old.layers.add(name=layer.name, bottom=layer.bottom, top=layer.top, blobs=layer.blobs)
        new.type = caffe_pb2.V1LayerParameter.LayerType.Value(types[layer.type])
        new.blobs_lr.extend(param.lr_mult for param in layer.param)
        new.weight_decay.extend(param.decay_mult for param in layer.param)
        for field in ("convolution_param", "pooling_param", "inner_product_param"):
            if layer.HasField(field):
                getattr(new, field).CopyFrom(getattr(layer, field))
    return old


@pytest.fixture
def faces(write):
    """The net with random weights, its caffemodel, and random pictures."""
    net = caffe.Net(write(FACES), caffe.TEST)
    random = np.random.default_rng(6)
    for name, blobs in net.params.items():
        for blob in blobs[1:] if name.startswith("conv") else blobs:
            blob.data[...] = random.normal(0.1, 0.2, blob.shape)
    net.save("net.caffemodel")
    with open("net.caffemodel", "rb") as file:
        model = file.read()
    return net, model, random.standard_normal((5, 3, 24, 24)).astype(np.float32)


def run(net, x):
    net.blobs["data"].reshape(*x.shape)
    return {name: array.copy() for name, array in net.forward(data=x).items()}


def same(found, expected):
    assert sorted(found) == sorted(expected)
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-4, atol=1e-5, err_msg=name)


def formulas(params, x):
    def conv(x, weight, bias):
        windows = sliding_window_view(x, weight.shape[2:], (2, 3))
        return np.einsum("nchwij,ocij->nohw", windows, weight) + bias[:, None, None]

    def prelu(x, slope):
        return np.where(x > 0, x, x * slope.reshape(-1, *[1] * (x.ndim - 2)))

    p = {name: [blob.data.astype(np.float64) for blob in blobs] for name, blobs in params.items()}
    x = prelu(conv(x.astype(np.float64), *p["conv1"]), *p["prelu1"])
    x = np.pad(
        x, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=-np.inf
    )  # the last window is cut off: 22 to 11
    x = sliding_window_view(x, (3, 3), (2, 3))[:, :, ::2, ::2].max((4, 5))
    x = prelu(conv(x, *p["conv2"]), *p["prelu2"]).reshape(len(x), -1)
    x = prelu(x @ p["conv4"][0].T + p["conv4"][1], *p["prelu4"])
    scores, boxes = (x @ p[name][0].T + p[name][1] for name in ("conv5-1", "conv5-2"))
    exponentials = np.exp(scores)
    return {"prob1": exponentials / exponentials.sum(1, keepdims=True), "conv5-2": boxes}


def test_formulas(faces):
    net, _, x = faces
    same(run(net, x), formulas(net.params, x))


def test_old_dimensions_of_blobs(faces):
    net, model, x = faces
    with open("old.caffemodel", "wb") as file:
        file.write(legacy(model))
    same(run(caffe.Net("net.prototxt", caffe.TEST, weights="old.caffemodel"), x), run(net, x))


def test_v1_layers(faces, write):
    """Without the PReLU layers, which V1 had not."""
    _, model, x = faces
    kept = [line for line in FACES.split("\n") if "PReLU" not in line]
    net = caffe.Net(write("\n".join(kept), "new.prototxt"), caffe.TEST, weights="net.caffemodel")
    text, old_model = v1("\n".join(kept), model)
    with open("v1.caffemodel", "wb") as file:
        file.write(old_model)
    old = caffe.Net(write(text, "v1.prototxt"), caffe.TEST, weights="v1.caffemodel")
    same(run(old, x), run(net, x))


@pytest.fixture
def opencv():
    cv2 = pytest.importorskip("cv2")
    if not hasattr(cv2.dnn, "readNetFromCaffe"):
        pytest.skip(
            f"OpenCV {cv2.__version__} does not read Caffe's files: pip install 'opencv-python-headless<5'"
        )

    def run_opencv(prototxt, model, x, outputs):
        net = cv2.dnn.readNetFromCaffe(prototxt, model)
        net.setInput(x)
        return dict(zip(outputs, net.forward(outputs), strict=True))

    return run_opencv


@pytest.mark.parametrize("convert", [bytes, legacy])
def test_opencv_reads_the_same(faces, opencv, convert):
    net, model, x = faces
    with open("written.caffemodel", "wb") as file:
        file.write(convert(model))
    same(run(net, x), opencv("net.prototxt", "written.caffemodel", x, net.outputs))


@pytest.mark.skipif("CAFFE_ZOO_NET" not in os.environ, reason="no CAFFE_ZOO_NET is given")
def test_a_net_from_the_wild(opencv):
    prototxt, model = (f"{os.environ['CAFFE_ZOO_NET']}.{ending}" for ending in ("prototxt", "caffemodel"))
    net = caffe.Net(prototxt, caffe.TEST, weights=model)
    (name,) = net.inputs
    x = np.random.default_rng(0).standard_normal((3, *net.blobs[name].shape[1:])).astype(np.float32)
    same(run(net, x), opencv(prototxt, model, x, net.outputs))
