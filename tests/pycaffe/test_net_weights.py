"""Net: weights in and out, as protobuf and HDF5 files and from net to net."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

import caffetools.pycaffe as caffe
from caffetools.proto import caffe_pb2
from tests.pycaffe.conftest import SMALL


def copies(net):
    return {name: [blob.data.copy() for blob in blobs] for name, blobs in net.params.items()}


def check_params(net, expected):
    for name, arrays in expected.items():
        for blob, array in zip(net.params[name], arrays, strict=True):
            np.testing.assert_array_equal(blob.data, array)


class TestWeights:
    def test_save_and_load(self, small):
        small.save("net.caffemodel")
        again = caffe.Net("net.prototxt", caffe.TEST, weights="net.caffemodel")
        check_params(again, copies(small))

    def test_what_is_saved(self, small):
        small.save("net.caffemodel")
        with open("net.caffemodel", "rb") as file:
            saved = caffe_pb2.NetParameter.FromString(file.read())
        assert [layer.name for layer in saved.layer] == list(small.layer_dict)
        assert list(saved.layer[1].blobs[1].data) == [2] * 11

    def test_copy_from(self, small):
        expected = copies(small)
        small.save("net.caffemodel")
        small.params["conv"][0].data[...] = 0
        small.copy_from("net.caffemodel")
        check_params(small, expected)

    @pytest.mark.parametrize("load", ["load_hdf5", "copy_from"])
    def test_save_and_load_hdf5(self, small, load):
        expected = copies(small)
        small.save_hdf5("net.h5")
        small.params["conv"][0].data[...] = 0
        getattr(small, load)("net.h5")
        check_params(small, expected)

    def test_hdf5_has_the_original_layout(self, small):
        small.save_hdf5("net.h5")
        with h5py.File("net.h5") as file:
            np.testing.assert_array_equal(file["data/conv/0"], small.params["conv"][0].data)

    def test_hdf5_by_any_name(self, small):
        expected = copies(small)
        small.save_hdf5("net.weights")
        small.params["ip"][0].data[...] = 0
        small.load_hdf5("net.weights")
        check_params(small, expected)

    def test_share_with(self, small):
        other = caffe.Net("net.prototxt", caffe.TEST)
        other.share_with(small)
        small.params["ip"][0].data[...] = 6
        assert (other.params["ip"][0].data == 6).all()

    def test_paths_may_be_path_objects(self, small, tmp_path):
        small.save(tmp_path / "net.caffemodel")
        small.save_hdf5(tmp_path / "net.h5")
        again = caffe.Net(tmp_path / "net.prototxt", caffe.TEST, weights=tmp_path / "net.caffemodel")
        again.load_hdf5(tmp_path / "net.h5")
        check_params(again, copies(small))

    def test_old_form_of_the_constructor(self, small, capfd):
        small.save("net.caffemodel")
        again = caffe.Net("net.prototxt", "net.caffemodel", caffe.TEST)
        check_params(again, copies(small))
        log = capfd.readouterr().err
        assert "DEPRECATION WARNING - deprecated use of Python interface" in log
        assert "Net('net.prototxt', 1, weights='net.caffemodel')" in log

    @pytest.mark.parametrize("arguments", [("gone", caffe.TEST), ("gone", "net.prototxt", caffe.TEST)])
    def test_missing_net(self, small, arguments):
        with pytest.raises(RuntimeError, match="Could not open file gone"):
            caffe.Net(*arguments)

    def test_missing_weights(self, small):
        with pytest.raises(RuntimeError, match="Could not open file gone"):
            caffe.Net("net.prototxt", caffe.TEST, weights="gone")

    def test_weights_of_another_shape(self, small, write):
        small.save("net.caffemodel")
        other = caffe.Net(
            write(SMALL.replace("num_output: 11", "num_output: 12"), "other.prototxt"), caffe.TEST
        )
        with pytest.raises(
            RuntimeError, match="Cannot copy param 0 weights from layer 'conv'; shape mismatch"
        ):
            other.copy_from("net.caffemodel")
