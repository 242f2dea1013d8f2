"""Small nets for the tests."""

from __future__ import annotations

import numpy as np

from caffetools.engine.cpu.rng import RandomSource
from caffetools.formats import prototxt
from caffetools.layer import TRAIN, Context
from caffetools.net import Net, load_net
from caffetools.proto import caffe_pb2

CLASSIFIER = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 4 dim: 6 } } }
layer { name: "label" type: "Input" top: "label" input_param { shape { dim: 4 } } }
layer { name: "ip1" type: "InnerProduct" bottom: "x" top: "h"
        inner_product_param { num_output: 8 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "h" top: "h" }
layer { name: "ip2" type: "InnerProduct" bottom: "h" top: "score"
        inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "ip3" type: "InnerProduct" bottom: "h" top: "score3"
        inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" }
layer { name: "loss3" type: "SoftmaxWithLoss" bottom: "score3" bottom: "label" top: "loss3" loss_weight: 0.5 }
"""


def classifier(engine=None, text: str = CLASSIFIER) -> Net:
    """Return a net with two losses, its inputs filled."""
    param = prototxt.parse(text, caffe_pb2.NetParameter)
    net = load_net(param, TRAIN, Context(random=RandomSource(3), engine=engine))
    net.blobs["x"].data[...] = np.random.default_rng(0).standard_normal((4, 6))
    net.blobs["label"].data[...] = [0, 1, 2, 1]
    return net
