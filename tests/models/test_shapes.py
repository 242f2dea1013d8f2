"""Every net builds in every phase, with the shapes, parameters and multiply-adds that its paper has."""

from __future__ import annotations

import pytest

from caffetools import graph, upgrade
from caffetools.layer import TEST, TRAIN, Context
from caffetools.net import Net
from caffetools.tools import net_inputs, summary
from tests.models.zoo import LARGE, MODELS, NETS

BATCH = 2


def build(path, phase, inputs=None, stages=()):
    """Build a net of small batches without memory for its weights; `inputs` take the place of its data."""
    param = upgrade.read_net_text(path)
    param.state.phase = phase
    param.state.stage.extend(stages)
    param = net_inputs.with_inputs(graph.filter_net(param), inputs or {})
    return Net(net_inputs.with_batch(param, BATCH), Context(phase, fill=False))


def training_net(net, phase, stages=()):
    name, shape = net.data_shape
    return build(net.train_file, phase, {name: (BATCH, *shape)}, stages)


def parameters(net):
    """Count what is learnt: shared parameters once, and no statistics."""
    layers = {layer.name: layer.type for layer in net.layers}
    return sum(
        blob.count
        for blob, (layer, _) in zip(net.params, net.param_names, strict=True)
        if layers[layer] != "BatchNorm"
    )


@pytest.mark.parametrize("net", NETS, ids=lambda net: net.folder)
def test_net_in_use(net):
    built = build(net.use_file, TEST)
    name, shape = net.top
    assert built.inputs == ["data"]
    assert built.blobs["data"].shape == (BATCH, *net.shape)
    assert built.outputs == [name]
    assert built.blobs[name].shape == (BATCH, *shape)
    assert parameters(built) == net.parameters


@pytest.mark.parametrize("net", NETS, ids=lambda net: net.folder)
def test_multiply_adds(net):
    described = summary.summarize(summary.read(net.use_file, "TEST"), 1)
    exact = isinstance(net.multiply_adds, int)
    known = net.multiply_adds if exact else pytest.approx(net.multiply_adds, rel=0.02)
    assert described.total("multiply_adds") == known


#: GoogLeNet's auxiliary classifiers (1x1 convolution, two inner products) see 512 and 528 channels.
AUXILIARY = sum(c * 128 + 128 + 4 * 4 * 128 * 1024 + 1024 + 1024 * 1000 + 1000 for c in (512, 528))


@pytest.mark.parametrize("net", NETS, ids=lambda net: net.folder)
def test_trained_net(net):
    built = training_net(net, TRAIN)
    losses = [name for name, weight in zip(built.outputs, built.output_loss_weights, strict=True) if weight]
    assert losses
    assert all(built.blobs[name].count == 1 for name in losses)
    more = AUXILIARY if net.folder == "googlenet" else 0
    assert parameters(built) == net.parameters + more
    # Whatever can learn is reached by the gradient.
    assert all(
        needed
        for layer, needed in zip(built.layers, built.layer_needs_backward, strict=True)
        if layer.blobs and layer.type != "BatchNorm"
    )


STAGES = {"mnist_autoencoder": ("test-on-test",)}


@pytest.mark.parametrize("net", NETS, ids=lambda net: net.folder)
def test_tested_net(net):
    built = training_net(net, TEST, STAGES.get(net.folder, ()))
    trained = training_net(net, TRAIN)
    kinds = {layer.type for layer in built.layers}
    assert net.folder.startswith("mnist_") or "Accuracy" in kinds
    assert set(trained.outputs) <= set(built.outputs)
    # What was learnt fits in: layer by layer the same shapes.
    shapes = [
        {layer.name: [blob.shape for blob in layer.blobs] for layer in n.layers if layer.blobs}
        for n in (trained, built)
    ]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("net", NETS, ids=lambda net: net.folder)
def test_weights_go_from_training_to_use(net):
    """A layer of the net in use has the name and the shapes of the one that was trained."""
    trained = {layer.name: layer for layer in training_net(net, TRAIN).layers}
    for layer in build(net.use_file, TEST).layers:
        shapes = [blob.shape for blob in layer.blobs]
        assert not shapes or shapes == [blob.shape for blob in trained[layer.name].blobs]


@pytest.mark.parametrize("net", LARGE, ids=lambda net: net.folder)
def test_imagenet_layers_read_the_databases_of_imagenet(net):
    data = [layer for layer in upgrade.read_net_text(net.train_file).layer if layer.type == "Data"]
    sources = ["data/ilsvrc12/ilsvrc12_train_lmdb", "data/ilsvrc12/ilsvrc12_val_lmdb"]
    assert [layer.data_param.source for layer in data] == sources
    assert [layer.transform_param.mirror for layer in data] == [True, False]
    assert {layer.transform_param.crop_size for layer in data} == {net.shape[-1]}


def test_auxiliary_losses():
    weights = {
        name: layer.loss_weight[0]
        for layer in upgrade.read_net_text(MODELS / "googlenet/train_val.prototxt").layer
        for name in layer.top
        if layer.loss_weight
    }
    assert weights == {"loss1/loss1": pytest.approx(0.3), "loss2/loss1": pytest.approx(0.3), "loss3/loss3": 1}


#: Layers that weights from elsewhere and users' scripts name.
NAMES = {
    "alexnet": "conv1 relu1 norm1 pool1 conv5 pool5 fc6 relu6 drop6 fc7 fc8 prob",
    "googlenet": "conv1/7x7_s2 pool1/norm1 inception_3a/1x1 inception_4e/5x5_reduce inception_5b/pool_proj "
    "inception_5b/output pool5/7x7_s1 loss3/classifier",
    "nin": "conv1 cccp1 cccp6 conv4-1024 cccp7-1024 cccp8-1024 pool4",
    "vgg16": "conv1_1 relu1_1 conv5_3 pool5 fc6 drop7 fc8",
    "vgg19": "conv3_4 conv5_4",
    "squeezenet_v1.1": "conv1 fire2/squeeze1x1 fire2/relu_squeeze1x1 fire9/expand3x3 fire9/concat conv10 "
    "pool10",
    "resnet50": "conv1 bn_conv1 scale_conv1 conv1_relu res2a_branch1 bn2a_branch2a scale2a_branch2a "
    "res2a_branch2b_relu res2a res2a_relu res4f res5c_branch2c pool5 fc1000",
    "resnet101": "res3a res3b3 res4b22_branch2a bn4b22_branch2a res5c",
    "resnet152": "res3b7 res4b35_branch2c scale4b35_branch2c res5c",
    "mobilenet": "conv1 conv1/bn conv1/scale relu1 conv2_1/dw conv2_1/sep/bn conv5_6/dw conv6/sep pool6 fc7",
    "densenet121": "conv1/bn pool1 conv2_1/x1/bn conv2_1/x2 concat_2_6 conv2_blk pool2 concat_5_16 relu5_blk "
    "fc6",
}


@pytest.mark.parametrize("folder", NAMES)
def test_layers_have_the_names_that_users_know(folder):
    layers = {layer.name for layer in upgrade.read_net_text(MODELS / folder / "deploy.prototxt").layer}
    assert set(NAMES[folder].split()) <= layers
