"""Binary protos: the recorded files, and everything else that a user may give in their place."""

from __future__ import annotations

import os

import pytest

from caffetools.formats import binary
from caffetools.glog import FatalError
from caffetools.proto import caffe_pb2

from .conftest import FORMATS

NET = "Check failed: ReadProtoFromBinaryFile(param_file, param) Failed to parse NetParameter file: "


@pytest.mark.parametrize(
    ("name", "message_class"),
    [
        ("small_iter_20.caffemodel", caffe_pb2.NetParameter),
        ("small_iter_20.solverstate", caffe_pb2.SolverState),
        ("set_mean.binaryproto", caffe_pb2.BlobProto),
    ],
)
def test_recorded_file_is_written_again_byte_for_byte(tmp_path, name, message_class):
    message = binary.read(FORMATS / name, message_class)
    binary.write(tmp_path / name, message)
    assert (tmp_path / name).read_bytes() == (FORMATS / name).read_bytes()
    assert os.listdir(tmp_path) == [name]


def test_recorded_state():
    state = binary.read(FORMATS / "small_iter_20.solverstate", caffe_pb2.SolverState)
    assert (state.iter, state.learned_net, state.current_step) == (20, "small_iter_20.caffemodel", 0)
    assert [tuple(blob.shape.dim) for blob in state.history] == [(6, 1, 5, 5), (6,), (10, 216), (10,)]


def refusal(tmp_path, data, message_class=caffe_pb2.NetParameter):
    (tmp_path / "f").write_bytes(data)
    with pytest.raises(FatalError) as error:
        binary.read(tmp_path / "f", message_class)
    return str(error.value).replace(str(tmp_path / "f"), "F")


def test_truncated(tmp_path):
    data = (FORMATS / "small_iter_20.caffemodel").read_bytes()[:-100]
    assert refusal(tmp_path, data) == NET + "F (it is truncated, damaged, or another kind of file)"


def test_text_file(tmp_path):
    data = (FORMATS / "train_test.prototxt").read_bytes()
    assert refusal(tmp_path, data) == NET + "F (it is a text file, where a binary NetParameter is expected)"


def test_hdf5_file(tmp_path):
    data = (FORMATS / "small_h5_iter_20.caffemodel.h5").read_bytes()
    assert refusal(tmp_path, data) == NET + "F (it is an HDF5 file: its name must end in .h5)"


def test_mean_file_that_is_none(tmp_path):
    expected = (
        "Check failed: ReadProtoFromBinaryFile(filename, proto) Failed to parse BlobProto file: F "
        "(it is truncated, damaged, or another kind of file)"
    )
    assert refusal(tmp_path, b"\xff" * 30, caffe_pb2.BlobProto) == expected


def test_missing_required_field(tmp_path):
    net = caffe_pb2.NetParameter()
    net.layer.add(type="Clip").clip_param.min = 1
    missing = "(required fields are missing: layer[0].clip_param.max)"
    assert refusal(tmp_path, net.SerializePartialToString()) == f"{NET}F {missing}"
    with pytest.raises(FatalError, match="Cannot write .*: required fields are missing: layer"):
        binary.write(tmp_path / "g", net)
    assert not (tmp_path / "g").exists()


def test_missing_file():
    with pytest.raises(FatalError) as error:
        binary.read("nope.caffemodel", caffe_pb2.NetParameter)
    assert str(error.value) == "Check failed: fd != -1 (-1 vs. -1) File not found: nope.caffemodel"


def test_too_large_to_write(tmp_path, monkeypatch):
    """With a limit of 1000 bytes in place of 2 GB."""
    monkeypatch.setattr(binary, "LIMIT", 1000)
    binary.write(tmp_path / "f", caffe_pb2.NetParameter(name="x" * 900))
    with pytest.raises(FatalError, match=r"larger than 2 GB.*use HDF5 \(snapshot_format: HDF5\)"):
        binary.write(tmp_path / "f", caffe_pb2.NetParameter(name="x" * 1001))
    assert len(binary.read(tmp_path / "f", caffe_pb2.NetParameter).name) == 900


@pytest.mark.skipif(os.name == "nt", reason="needs files with holes")
def test_too_large_to_read(tmp_path):
    with (tmp_path / "f").open("wb") as file:
        file.truncate(2**31)
    with pytest.raises(FatalError, match=r"it is larger than 2 GB.*keep it as HDF5"):
        binary.read(tmp_path / "f", caffe_pb2.NetParameter)
