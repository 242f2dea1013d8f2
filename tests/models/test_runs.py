"""The smaller nets run: a forward and a backward pass give a finite loss of the right size, and gradients."""

from __future__ import annotations

from math import log

import numpy as np
import pytest

from caffetools import graph, upgrade
from caffetools.engine.cpu.rng import RandomSource
from caffetools.layer import TRAIN, Context
from caffetools.net import Net
from caffetools.tools import net_inputs
from tests.models.zoo import NETS

BATCH = 2
BY_NAME = {net.folder: net for net in NETS}

#: The loss of a net that knows nothing: each class is as probable as any other.
CHANCE = {"lenet": log(10), "cifar10_quick": log(10), "cifar10_full": log(10), "squeezenet_v1.1": log(1000)}


def run(folder, batch):
    net = BY_NAME[folder]
    name, shape = net.data_shape
    param = upgrade.read_net_text(net.train_file)
    param.state.phase = TRAIN
    param = net_inputs.with_inputs(graph.filter_net(param), {name: (batch, *shape)})
    built = Net(param, Context(TRAIN, random=RandomSource(1)))
    random = np.random.default_rng(1)
    built.blobs[name].data[...] = random.random((batch, *shape))
    for label in set(built.inputs) - {name}:
        built.blobs[label].data[...] = random.integers(0, 2, batch)
    loss = built.forward()
    built.backward()
    return built, loss


@pytest.mark.parametrize(
    "folder",
    [
        "lenet",
        "mnist_autoencoder",
        "mnist_siamese",
        "cifar10_quick",
        "cifar10_full",
        "squeezenet_v1.0",
        "squeezenet_v1.1",
    ],
)
def test_forward_and_backward(folder):
    net, loss = run(folder, 1 if folder.startswith("squeezenet") else BATCH)
    assert np.isfinite(loss)
    assert loss > 0
    if folder in CHANCE:
        assert loss == pytest.approx(CHANCE[folder], rel=0.3)
    for blob, (layer, index) in zip(net.params, net.param_names, strict=True):
        assert np.isfinite(blob.diff).all(), (layer, index)
        # Biases of the siamese net may move both pictures of a pair alike, which changes no distance.
        assert index or blob.diff.any(), (layer, index)
