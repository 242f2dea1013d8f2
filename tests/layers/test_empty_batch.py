"""A Filter may let nothing through: what follows gets a batch of no rows, forward and backward."""

from __future__ import annotations

import numpy as np
import pytest

from caffetools.formats import prototxt
from caffetools.layer import TRAIN, Context
from caffetools.net import load_net
from caffetools.proto import caffe_pb2

NET = """
force_backward: true
layer { name: "in" type: "Input" top: "x" top: "label" top: "keep"
  input_param { shape { dim: 2 dim: 6 dim: 5 dim: 5 } shape { dim: 2 } shape { dim: 2 } } }
layer { name: "f" type: "Filter" bottom: "x" bottom: "label" bottom: "keep" top: "fx" top: "flabel" }
"""

LAYERS = [
    'type: "Convolution" convolution_param { num_output: 2 kernel_size: 3 }',
    'type: "Convolution" convolution_param { num_output: 2 kernel_size: 3 pad: 1 dilation: 2 }',
    'type: "Convolution" convolution_param { num_output: 2 kernel_size: 5 pad: 2 stride: 2 }',
    'type: "Convolution" convolution_param { num_output: 6 kernel_size: 3 group: 6 }',
    'type: "Convolution" convolution_param { num_output: 2 kernel_size: 1 }',
    'type: "Deconvolution" convolution_param { num_output: 2 kernel_size: 3 }',
    'type: "InnerProduct" inner_product_param { num_output: 2 }',
    'type: "Pooling" pooling_param { kernel_size: 2 }',
    'type: "BatchNorm"',
    'type: "LRN"',
    'type: "Softmax"',
    'type: "ReLU"',
]


def run(layer):
    """Run the net with all rows, then with none; return its blobs."""
    net = load_net(prototxt.parse(NET + layer, caffe_pb2.NetParameter), TRAIN, Context())
    for keep in (1, 0):
        net.blobs["x"].data[...] = 1
        net.blobs["keep"].data[...] = keep
        net.clear_param_diffs()
        net.forward()
        net.backward()
    assert not net.param_diff.any()
    return net.blobs


@pytest.mark.parametrize("layer", LAYERS)
def test_layers(layer):
    silence = 'layer { name: "s" type: "Silence" bottom: "flabel" }'
    blobs = run(f'layer {{ name: "l" bottom: "fx" top: "y" {layer} }} {silence}')
    assert blobs["y"].shape[0] == 0


@pytest.mark.parametrize("kind", ["EuclideanLoss", "Accuracy", "SoftmaxWithLoss"])
def test_losses_and_accuracy(kind):
    score = 'layer { name: "ip" type: "InnerProduct" bottom: "fx" top: "y" inner_product_param { num_output: %d } }'
    score %= 1 if kind == "EuclideanLoss" else 2
    blobs = run(score + f'layer {{ name: "l" type: "{kind}" bottom: "y" bottom: "flabel" top: "value" }}')
    value = float(blobs["value"].data)
    assert value == 0 or (kind == "Accuracy" and np.isnan(value))
