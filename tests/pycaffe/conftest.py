"""Nets that the tests of the Python interface build again and again."""

from __future__ import annotations

import pytest

import caffetools.pycaffe as caffe

# A batch of 5 random pictures and labels, two layers that learn, and a loss. The top of `ip` is split.
SMALL = """
name: "small"
force_backward: true
layer {
  type: "DummyData" name: "data" top: "data" top: "label"
  dummy_data_param {
    shape { dim: 5 dim: 2 dim: 3 dim: 4 }
    shape { dim: 5 }
    data_filler { type: "gaussian" std: 1 }
    data_filler { type: "constant" }
  }
}
layer {
  type: "Convolution" name: "conv" bottom: "data" top: "conv"
  convolution_param {
    num_output: 11 kernel_size: 2 pad: 3
    weight_filler { type: "gaussian" std: 1 }
    bias_filler { type: "constant" value: 2 }
  }
  param { decay_mult: 1 }
  param { decay_mult: 0 }
}
layer {
  type: "InnerProduct" name: "ip" bottom: "conv" top: "ip_blob"
  inner_product_param { num_output: 13 weight_filler { type: "gaussian" std: 2.5 } }
}
layer { type: "ReLU" name: "relu" bottom: "ip_blob" top: "relu_blob" }
layer { type: "Power" name: "twice" bottom: "ip_blob" top: "twice" power_param { scale: 2 } }
layer { type: "SoftmaxWithLoss" name: "loss" bottom: "relu_blob" bottom: "label" top: "loss" }
"""


# Inputs of batches of 4 with 3 values each, and a layer that learns.
DEPLOY = """
layer { type: "Input" name: "data" top: "data" input_param { shape { dim: 4 dim: 3 } } }
layer {
  type: "InnerProduct" name: "ip" bottom: "data" top: "ip"
  inner_product_param { num_output: 2 weight_filler { type: "gaussian" std: 1 } }
}
"""


@pytest.fixture(autouse=True)
def seed():
    """Make the tests' random weights and inputs the same in every run."""
    caffe.set_random_seed(1701)


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Return a function that writes a file in the current directory and returns its name."""
    monkeypatch.chdir(tmp_path)

    def write(text, name="net.prototxt"):
        (tmp_path / name).write_text(text)
        return name

    return write


@pytest.fixture
def small(write):
    return caffe.Net(write(SMALL), caffe.TRAIN)


@pytest.fixture
def deploy(write):
    return caffe.Net(write(DEPLOY), caffe.TEST)
