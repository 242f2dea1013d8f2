"""Weights as safetensors: names, values, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from caffetools.formats import binary, prototxt
from caffetools.glog import FatalError
from caffetools.layer import TEST, Context
from caffetools.net import Net
from caffetools.proto import caffe_pb2
from caffetools.tools import export

safetensors = pytest.importorskip("safetensors")
numpy_files = pytest.importorskip("safetensors.numpy")

NET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 6 dim: 6 } } }
layer { name: "block/conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3
    weight_filler { type: "gaussian" } bias_filler { type: "gaussian" } } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "slope" type: "PReLU" bottom: "conv" top: "conv" }
layer { name: "ip1" type: "InnerProduct" bottom: "conv" top: "ip1" param { name: "w" }
  inner_product_param { num_output: 5 bias_term: false weight_filler { type: "xavier" } } }
layer { name: "ip2" type: "InnerProduct" bottom: "conv" top: "ip2" param { name: "w" }
  inner_product_param { num_output: 5 bias_term: false weight_filler { type: "xavier" } } }
"""


@pytest.fixture
def files(tmp_path):
    """The net, its prototxt and its caffemodel."""
    param = prototxt.parse(NET, caffe_pb2.NetParameter)
    param.state.phase = TEST
    net = Net(param, Context(TEST))
    model, weights = tmp_path / "net.prototxt", tmp_path / "net.caffemodel"
    model.write_text(NET)
    binary.write(str(weights), net.to_proto())
    return net, str(model), str(weights), tmp_path


@pytest.mark.parametrize("with_model", [False, True])
def test_tensors_have_telling_names_and_the_models_values(files, with_model):
    net, model, weights, folder = files
    path = folder / "w.safetensors"
    export.export(model if with_model else "", weights, safetensors=str(path))
    tensors = numpy_files.load_file(path)
    layer = net.layer_by_name
    np.testing.assert_array_equal(tensors["block/conv.weight"], layer["block/conv"].blobs[0].data)
    np.testing.assert_array_equal(tensors["block/conv.bias"], layer["block/conv"].blobs[1].data)
    np.testing.assert_array_equal(tensors["bn.scale_factor"], layer["bn"].blobs[2].data)
    np.testing.assert_array_equal(tensors["slope.weight"], layer["slope"].blobs[0].data)
    assert {"bn.mean", "bn.variance", "ip1.weight"} <= set(tensors)
    with safetensors.safe_open(path, "numpy") as opened:
        assert opened.metadata()["format"] == "caffe"


def test_there_and_back_is_the_same_caffemodel(files):
    _, model, weights, folder = files
    export.export("", weights, safetensors=str(folder / "w.safetensors"))
    export.import_weights(model, str(folder / "w.safetensors"), str(folder / "back.caffemodel"))
    assert (folder / "back.caffemodel").read_bytes() == (folder / "net.caffemodel").read_bytes()


def write(folder, tensors):
    path = folder / "made.safetensors"
    numpy_files.save_file(tensors, path)
    return str(path)


def tensors_of(files):
    _, _, weights, folder = files
    export.export("", weights, safetensors=str(folder / "w.safetensors"))
    return numpy_files.load_file(folder / "w.safetensors")


def test_numbers_stand_for_names(files):
    _, model, weights, folder = files
    tensors = tensors_of(files)
    tensors["block/conv.0"] = tensors.pop("block/conv.weight")
    tensors["block/conv.1"] = tensors.pop("block/conv.bias")
    export.import_weights(model, write(folder, tensors), str(folder / "back.caffemodel"))
    assert (folder / "back.caffemodel").read_bytes() == (folder / "net.caffemodel").read_bytes()


def test_what_the_net_has_no_place_for_is_said(files, capsys):
    _, model, _, folder = files
    path = write(folder, {**tensors_of(files), "head.weight": np.zeros(3, np.float32)})
    export.import_weights(model, path, str(folder / "back.caffemodel"))
    assert "no place for 1 of 9 tensors: head.weight" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("bn.mean"), r"has no tensor 'bn.mean' for parameter 0 of layer 'bn' \(BatchNorm\)"),
        (lambda t: t.update({"bn.maen": t.pop("bn.mean")}), r"has no tensor 'bn.mean' .*; did you mean bn.maen\?"),
        (lambda t: t.pop("ip1.weight"), r"for parameter 0 of layer 'ip1' \(InnerProduct\)$"),
        (
            lambda t: t.update({"ip1.weight": np.zeros((5, 3), np.float32)}),
            r"tensor 'ip1.weight' has the shape \(5, 3\), parameter 0 of layer 'ip1' has \(5, 64\)",
        ),
    ],
)
def test_what_does_not_fit_is_refused(files, change, message):
    _, model, _, folder = files
    tensors = tensors_of(files)
    change(tensors)
    with pytest.raises(FatalError, match=message):
        export.import_weights(model, write(folder, tensors), str(folder / "back.caffemodel"))
    assert not (folder / "back.caffemodel").exists()


@pytest.mark.parametrize(
    ("content", "message"), [(None, "Cannot read"), (b"no tensors here", "is no safetensors file")]
)
def test_a_file_that_is_none(files, content, message):
    _, model, _, folder = files
    path = folder / "bad.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FatalError, match=message):
        export.import_weights(model, str(path), str(folder / "back.caffemodel"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "m"}, "Need a place for the result"),
        ({"model": "m", "safetensors": "w"}, "--safetensors writes weights"),
        ({"model": "", "output": "x.onnx"}, "Need a model definition to export"),
    ],
)
def test_missing_flags_are_named(arguments, message):
    with pytest.raises(FatalError, match=message):
        export.export(**arguments)
