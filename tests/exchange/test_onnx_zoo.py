"""Every net of models/ as ONNX with random weights, against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest

from caffetools import graph, upgrade
from caffetools.layer import TEST, Context
from caffetools.net import Net
from caffetools.tools import net_inputs
from tests.exchange.test_onnx import compare, enliven, exported
from tests.models.zoo import NETS

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

QUICK = {"lenet", "mnist_autoencoder", "mnist_siamese", "cifar10_quick", "cifar10_full", "squeezenet_v1.1", "mobilenet"}


def keep_in_range(net: Net, random) -> None:
    """Give Scale layers factors around 1, and convolutions without fillers weights that keep the values' size."""
    enliven(net, random)
    for layer in net.layers:
        if layer.type == "Scale":
            layer.blobs[0].data[...] = random.uniform(0.5, 1.2, layer.blobs[0].shape)
        elif layer.type in ("Convolution", "InnerProduct"):
            weights = layer.blobs[0]
            weights.data[...] = random.standard_normal(weights.shape, np.float32) * (2 / weights.count_from(1)) ** 0.5


@pytest.mark.parametrize(
    "folder",
    [
        pytest.param(net.folder, marks=[] if net.folder in QUICK else pytest.mark.slow, id=net.folder)
        for net in NETS
    ],
)
def test_agrees_with_onnxruntime(folder, tmp_path):
    known = next(net for net in NETS if net.folder == folder)
    random = np.random.default_rng(8)
    param = upgrade.read_net_text(known.use_file)
    param.state.phase = TEST
    net = Net(net_inputs.with_batch(graph.filter_net(param), 1), Context(TEST))
    keep_in_range(net, random)
    path = exported(net, tmp_path, known.use_file.read_text())
    compare(net, path, random, twice=True)
