"""Weights into a net and out of it: the original's files are read, ours hold the same, misfits are refused."""

from __future__ import annotations

import numpy as np
import pytest

from caffetools.formats import binary
from caffetools.glog import FatalError
from caffetools.layer import TEST, Context
from caffetools.net import load_net, weights
from caffetools.proto import caffe_pb2
from tests.recorded import FORMATS

DATA = 'layer { name: "data" type: "Input" top: "x" input_param { shape { dim: 1 dim: 4 } } }'


def ip(name, outputs=2):
    return (
        f'layer {{ name: "{name}" type: "InnerProduct" bottom: "x" top: "{name}" inner_product_param {{ '
        f'num_output: {outputs} weight_filler {{ type: "gaussian" }} }} }}'
    )


@pytest.mark.parametrize("name", ["small_iter_40.caffemodel", "small_h5_iter_40.caffemodel.h5"])
def test_the_originals_files(name):
    net = load_net(str(FORMATS / "deploy.prototxt"), TEST, Context())
    net.copy_from(str(FORMATS / name))
    recorded = binary.read(FORMATS / "small_iter_40.caffemodel", caffe_pb2.NetParameter)
    blobs = [blob for layer in recorded.layer for blob in layer.blobs]
    if name.endswith(".h5"):  # another run: its own weights, read with another library in tests/formats
        assert all(np.abs(param.data).sum() > 0 for param in net.params)
    else:
        for param, blob in zip(net.params, blobs, strict=True):
            np.testing.assert_array_equal(param.data.ravel(), np.array(blob.data, np.float32))


@pytest.mark.parametrize("suffix", ["caffemodel", "caffemodel.h5"])
def test_round_trip(make_net, tmp_path, suffix):
    first, second = make_net(DATA + ip("a") + ip("b")), make_net(DATA + ip("b") + ip("a"))
    path = str(tmp_path / f"net.{suffix}")
    if suffix.endswith("h5"):
        weights.write_hdf5(first, path)
    else:
        binary.write(path, first.to_proto())
    second.copy_from(path)
    for name in ("a", "b"):
        for one, other in zip(first.layer_by_name[name].blobs, second.layer_by_name[name].blobs, strict=True):
            np.testing.assert_array_equal(one.data, other.data)


def test_later_files_win(make_net, tmp_path):
    paths = []
    for value in (1, 2):
        net = make_net(DATA + ip("a"))
        net.param_data.fill(value)
        paths.append(str(tmp_path / f"{value}.caffemodel"))
        binary.write(paths[-1], net.to_proto())
    net.copy_from(f"{paths[1]}, {paths[0]} ")
    assert (net.params[0].data == 1).all()


def test_layers_without_namesake(make_net, capfd):
    source, target = make_net(DATA + ip("a") + ip("b")), make_net(DATA + ip("a"))
    weights.copy_from_proto(target, source.to_proto())
    log = capfd.readouterr().err
    assert "] Ignoring source layer b\n" in log
    np.testing.assert_array_equal(target.params[0].data, source.params[0].data)


def test_shape_mismatch(make_net):
    source, target = make_net(DATA + ip("fc8", 3)), make_net(DATA + ip("fc8", 2))
    words = (
        r"Cannot copy param 0 weights from layer 'fc8'; shape mismatch\.  Source param shape is 3 4 \(12\); target "
        r"param shape is 2 4 \(8\)\. To learn this layer's parameters from scratch rather than copying from a saved net"
    )
    with pytest.raises(FatalError, match=words):
        weights.copy_from_proto(target, source.to_proto())


def test_blob_count_mismatch(make_net):
    source = make_net(DATA + ip("a")).to_proto()
    del source.layer[-1].blobs[1]
    with pytest.raises(FatalError, match="Incompatible number of blobs for layer a"):
        weights.copy_from_proto(make_net(DATA + ip("a")), source)


def test_legacy_shapes(make_net):
    source, target = make_net(DATA + ip("a")).to_proto(), make_net(DATA + ip("a"))
    for blob, (height, width) in zip(source.layer[-1].blobs, [(2, 4), (1, 2)], strict=True):
        blob.ClearField("shape")
        blob.num, blob.channels, blob.height, blob.width = 1, 1, height, width
    weights.copy_from_proto(target, source)
    np.testing.assert_array_equal(
        target.params[0].data.ravel(), np.array(source.layer[-1].blobs[0].data, np.float32)
    )


def test_sharing_between_nets(make_net):
    train, test = make_net(DATA + ip("a")), make_net(DATA + ip("a"))
    test.share_weights_from(train)
    train.params[0].data[...] = 5
    assert (test.layer_by_name["a"].blobs[0].data == 5).all()


def test_sharing_between_nets_of_other_shapes(make_net):
    with pytest.raises(
        FatalError,
        match=r"Cannot share param 0 weights from layer 'a'; shape mismatch\.  Source param shape is",
    ):
        make_net(DATA + ip("a", 2)).share_weights_from(make_net(DATA + ip("a", 3)))


def test_diffs_are_saved_where_asked(make_net):
    net = make_net(DATA + ip("a"))
    net.param_diff.fill(3)
    assert list(net.to_proto(diffs=True).layer[-1].blobs[1].diff) == [3, 3]
    assert not net.to_proto().layer[-1].blobs[1].diff


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("s_iter_5.solverstate", "s_iter_5.solverstate .it holds the state of a solver: give it to --snapshot"),
        ("s_iter_5.solverstate.h5", "give it to --snapshot"),
        ("net.safetensors", "`caffe import` makes a caffemodel"),
        ("deploy.prototxt", "is a definition, without weights"),
    ],
)
def test_files_of_other_kinds(make_net, name, words):
    with pytest.raises(FatalError, match=words):
        make_net(DATA + ip("a")).copy_from(name)
