"""Layers that share storage, change shapes or carry a state, inside nets: numeric gradients of parameters."""

from __future__ import annotations

import numpy as np
import pytest
from google.protobuf import text_format

from caffetools.engine.cpu.rng import RandomSource
from caffetools.layer import TRAIN, Context
from caffetools.net import Net
from caffetools.proto import caffe_pb2

GAUSS = "weight_filler { type: 'gaussian' std: 0.5 } bias_filler { type: 'gaussian' std: 0.5 }"


def build(layers, **inputs):
    """Build a float64 net of Input layers with these arrays, and of `layers`."""
    param = caffe_pb2.NetParameter()
    for name, values in inputs.items():
        layer = param.layer.add(name=name, type="Input", top=[name])
        layer.input_param.shape.add(dim=np.shape(values))
    param.MergeFrom(text_format.Parse(layers, caffe_pb2.NetParameter()))
    param.state.phase = TRAIN
    net = Net(param, Context(dtype=np.dtype(np.float64), random=RandomSource(3)))
    feed(net, **inputs)
    return net


def feed(net, **inputs):
    for name, values in inputs.items():
        net.blobs[name].reshape(np.shape(values))
        net.blobs[name].data[...] = values


def assert_gradient(net, samples=60):
    """Compare the gradient of the loss with central differences in every parameter."""

    def loss():
        for layer in net.layers:
            if layer.name in states:
                layer.set_state(states[layer.name])
        return net.forward()

    states = {layer.name: layer.get_state() for layer in net.layers if layer.get_state()}
    loss()
    net.clear_param_diffs()
    net.backward()
    for blob, name in zip(net.params, net.param_names, strict=True):
        values, diff = blob.flat_data, blob.flat_diff.copy()
        for i in np.random.default_rng(1).permutation(values.size)[:samples]:
            original, losses = values[i], []
            for values[i] in (original + 1e-5, original - 1e-5):
                losses.append(loss())
            values[i] = original
            numeric = (losses[0] - losses[1]) / 2e-5
            assert abs(numeric - diff[i]) < 1e-7 * max(1, abs(numeric)), (name, i, numeric, diff[i])


def random(*shape, seed=1):
    return np.random.default_rng(seed).normal(size=shape)


RESHAPED = f"""
layer {{ name: "ip" type: "InnerProduct" bottom: "x" top: "a"
  inner_product_param {{ num_output: 12 {GAUSS} }} }}
layer {{ name: "r" type: "Reshape" bottom: "a" top: "b"
  reshape_param {{ shape {{ dim: 0 dim: 3 dim: -1 }} }} }}
layer {{ name: "p" type: "PReLU" bottom: "b" top: "b" }}
layer {{ name: "f" type: "Flatten" bottom: "b" top: "c" }}
layer {{ name: "w" type: "Power" bottom: "c" top: "c" power_param {{ power: 2 shift: 0.5 }} }}
layer {{ name: "loss" type: "EuclideanLoss" bottom: "c" bottom: "t" top: "loss" }}
"""


def test_in_place_layers_on_reshaped_blobs():
    net = build(RESHAPED, x=random(4, 5), t=random(4, 12))
    assert_gradient(net)
    feed(net, x=random(7, 5), t=random(7, 12))
    assert_gradient(net)


def test_a_reshaped_blob_with_two_consumers():
    net = build(
        f"""
        layer {{ name: "ip" type: "InnerProduct" bottom: "x" top: "a"
          inner_product_param {{ num_output: 6 {GAUSS} }} }}
        layer {{ name: "r" type: "Reshape" bottom: "a" top: "b"
          reshape_param {{ shape {{ dim: -1 dim: 2 }} }} }}
        layer {{ name: "e" type: "Exp" bottom: "b" top: "c" }}
        layer {{ name: "s" type: "Reduction" bottom: "b" top: "s" loss_weight: 0.5
          reduction_param {{ operation: SUMSQ }} }}
        layer {{ name: "u" type: "Reduction" bottom: "c" top: "u" loss_weight: 2
          reduction_param {{ axis: 1 }} }}
        """,
        x=random(4, 5),
    )
    assert_gradient(net)


FILTERED = f"""
layer {{ name: "ip" type: "InnerProduct" bottom: "x" top: "a"
  inner_product_param {{ num_output: 3 {GAUSS} }} }}
layer {{ name: "f" type: "Filter" bottom: "a" bottom: "label" bottom: "keep" top: "b" top: "chosen"
  propagate_down: true propagate_down: false propagate_down: false }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "b" bottom: "chosen" top: "loss"
  propagate_down: true propagate_down: false }}
"""


@pytest.mark.parametrize("keep", [[1, 0, 1, 1, 0], [0, 0, 0, 1, 0], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]])
def test_filtered_rows_reach_the_loss(keep):
    net = build(FILTERED, x=random(5, 4), label=np.arange(5) % 3, keep=np.array(keep))
    assert_gradient(net)
    assert net.blobs["b"].shape == (sum(keep), 3)
    feed(net, keep=np.array([0, 1, 0, 0, 0]))
    assert_gradient(net)
    assert net.blobs["b"].shape == (1, 3)


def test_a_parameter_as_an_input_and_its_gradient_over_two_passes():
    net = build(
        """
        layer { name: "p" type: "Parameter" top: "p" parameter_param { shape { dim: 4 dim: 3 } } }
        layer { name: "loss" type: "EuclideanLoss" bottom: "p" bottom: "x" top: "loss" }
        """,
        x=random(4, 3),
    )
    net.params[0].data[...] = random(4, 3, seed=2)
    assert_gradient(net)
    once = net.params[0].diff.copy()
    net.forward()
    net.backward()
    np.testing.assert_allclose(net.params[0].diff, 2 * once)


@pytest.mark.parametrize("kind", ["LSTM", "RNN"])
def test_words_through_a_recurrent_layer(kind):
    """A language model: Embed, a recurrent layer, InnerProduct and a loss over all steps and streams."""
    steps, streams, words = 4, 3, 6
    indices = np.random.default_rng(2).integers(0, words, (steps + 1, streams))
    cont = np.ones((steps, streams))
    cont[0, 1] = cont[2, 0] = 0
    net = build(
        f"""
        layer {{ name: "embed" type: "Embed" bottom: "word" top: "x" propagate_down: false
          embed_param {{ num_output: 5 input_dim: {words} {GAUSS} }} }}
        layer {{ name: "r" type: "{kind}" bottom: "x" bottom: "cont" bottom: "image" top: "h"
          recurrent_param {{ num_output: 4 {GAUSS} }} }}
        layer {{ name: "predict" type: "InnerProduct" bottom: "h" top: "y"
          inner_product_param {{ num_output: {words} axis: 2 {GAUSS} }} }}
        layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "y" bottom: "next" top: "loss"
          softmax_param {{ axis: 2 }} loss_param {{ ignore_label: 0 }} }}
        """,
        word=indices[:-1],
        next=indices[1:],
        cont=cont,
        image=random(streams, 2),
    )
    assert_gradient(net)
