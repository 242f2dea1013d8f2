"""The Python module on the GPU: nets and solvers of scripts, layers in Python with parameters, addresses of blobs."""

from __future__ import annotations

import ctypes

import numba
import numpy as np
import pytest

from caffetools import pycaffe as caffe

NET = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "shift" type: "Python" bottom: "x" top: "y"
        python_param { module: "tests.gpu.test_pycaffe" layer: "Shift" } }
layer { name: "ip" type: "InnerProduct" bottom: "y" top: "z"
        inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
"""


class Shift(caffe.Layer):
    """y = x + b"""

    def setup(self, bottom, top):
        self.blobs.add_blob(3)
        self.blobs[0].data[...] = [1, 2, 3]

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom, top):
        top[0].data[...] = bottom[0].data + self.blobs[0].data

    def backward(self, top, propagate_down, bottom):
        self.blobs[0].diff[...] += top[0].diff.sum(0)
        bottom[0].diff[...] = top[0].diff


@pytest.fixture
def net(tmp_path, engine):
    path = tmp_path / "net.prototxt"
    path.write_text("force_backward: true\n" + NET)
    caffe.set_mode_gpu()
    yield caffe.Net(str(path), caffe.TEST)
    caffe.set_mode_cpu()


def test_passes(net, tmp_path):
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    z = net.forward(x=x)["z"]
    w, b = (blob.data for blob in net.params["ip"])
    np.testing.assert_allclose(z, (x + [1, 2, 3]) @ w.T + b, rtol=1e-5)
    dx = net.backward(z=np.ones_like(z))["x"]
    np.testing.assert_allclose(dx, np.ones_like(z) @ w, rtol=1e-5)
    np.testing.assert_allclose(net.params["shift"][0].diff, (np.ones_like(z) @ w).sum(0), rtol=1e-5)
    net.params["shift"][0].data[...] = 0
    np.testing.assert_allclose(net.forward(x=x)["z"], x @ w.T + b, rtol=1e-5)
    net.save(str(tmp_path / "w.caffemodel"))
    net.params["ip"][0].data[...] = 0
    net.copy_from(str(tmp_path / "w.caffemodel"))
    np.testing.assert_allclose(net.forward(x=x)["z"], x @ w.T + b, rtol=1e-5)


@pytest.mark.skipif(not numba.config.ENABLE_CUDASIM, reason="the host cannot write to the device's addresses")
@pytest.mark.parametrize("side", ["data", "diff"])
def test_what_others_write_at_the_address_is_in_the_blob(side, net):
    blob = net.blobs["x"]
    getattr(blob, side)[...] = 1
    address = getattr(blob, f"_gpu_{side}_ptr")
    there = np.ctypeslib.as_array((ctypes.c_float * 6).from_address(address))
    assert there.tolist() == [1] * 6
    there[:] = range(6)
    assert getattr(blob, side).ravel().tolist() == list(range(6))


def test_a_net_of_the_cpu_has_no_address(net, tmp_path):
    caffe.set_mode_cpu()
    other = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST)
    with pytest.raises(RuntimeError, match=r"computes on the CPU; call set_mode_gpu\(\) before making it"):
        _ = other.blobs["x"]._gpu_data_ptr
