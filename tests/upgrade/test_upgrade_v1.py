"""V1: types, lists that became `param { }`, everything else unchanged."""

from __future__ import annotations

import pytest
from google.protobuf import text_format

from caffetools import upgrade
from caffetools.glog import FatalError
from caffetools.proto import caffe_pb2

TYPES = """
NONE, ABSVAL AbsVal, ACCURACY Accuracy, ARGMAX ArgMax, BNLL BNLL, CONCAT Concat,
CONTRASTIVE_LOSS ContrastiveLoss, CONVOLUTION Convolution, DECONVOLUTION Deconvolution, DATA Data,
DROPOUT Dropout, DUMMY_DATA DummyData, EUCLIDEAN_LOSS EuclideanLoss, ELTWISE Eltwise, EXP Exp,
FLATTEN Flatten, HDF5_DATA HDF5Data, HDF5_OUTPUT HDF5Output, HINGE_LOSS HingeLoss, IM2COL Im2col,
IMAGE_DATA ImageData, INFOGAIN_LOSS InfogainLoss, INNER_PRODUCT InnerProduct, LRN LRN,
MEMORY_DATA MemoryData, MULTINOMIAL_LOGISTIC_LOSS MultinomialLogisticLoss, MVN MVN, POOLING Pooling,
POWER Power, RELU ReLU, SIGMOID Sigmoid, SIGMOID_CROSS_ENTROPY_LOSS SigmoidCrossEntropyLoss,
SILENCE Silence, SOFTMAX Softmax, SOFTMAX_LOSS SoftmaxWithLoss, SPLIT Split, SLICE Slice, TANH TanH,
WINDOW_DATA WindowData, THRESHOLD Threshold
"""
PAIRS = [(pair.split() + [""])[:2] for pair in TYPES.split(",")]


def upgraded_layer(fields: str) -> caffe_pb2.LayerParameter:
    net = text_format.Parse(f"layers {{ {fields} }}", caffe_pb2.NetParameter())
    (layer,) = upgrade.upgrade_net(net, "f").layer
    return layer


def layer_of(fields: str) -> caffe_pb2.LayerParameter:
    return text_format.Parse(fields, caffe_pb2.LayerParameter())


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_type(old, new):
    assert upgraded_layer(f"type: {old}") == caffe_pb2.LayerParameter(type=new)


def test_every_type_is_tested():
    assert {old for old, _ in PAIRS} == set(caffe_pb2.V1LayerParameter.LayerType.keys())


def test_no_type():
    assert not upgraded_layer('name: "a"').HasField("type")


FIELDS = [
    ('name: "a"', 'name: "a"'),
    ('bottom: "a" bottom: "b"', 'bottom: "a" bottom: "b"'),
    ('top: "a" top: "b"', 'top: "a" top: "b"'),
    ("include { phase: TEST } include { min_level: 1 }", "include { phase: TEST } include { min_level: 1 }"),
    ('exclude { stage: "s" }', 'exclude { stage: "s" }'),
    ("loss_weight: 0 loss_weight: 2", "loss_weight: 0 loss_weight: 2"),
    ("blobs { data: 1 } blobs { num: 1 }", "blobs { data: 1 } blobs { num: 1 }"),
    ('param: "w" param: "b"', 'param { name: "w" } param { name: "b" }'),
    ("blob_share_mode: STRICT", "param { share_mode: STRICT }"),
    ("blob_share_mode: PERMISSIVE", "param { share_mode: PERMISSIVE }"),
    ("blobs_lr: 1 blobs_lr: 2", "param { lr_mult: 1 } param { lr_mult: 2 }"),
    ("weight_decay: 1 weight_decay: 0", "param { decay_mult: 1 } param { decay_mult: 0 }"),
    (
        'param: "w" blobs_lr: 1 blobs_lr: 2 weight_decay: 3 weight_decay: 4 weight_decay: 5',
        'param { name: "w" lr_mult: 1 decay_mult: 3 } param { lr_mult: 2 decay_mult: 4 } '
        "param { decay_mult: 5 }",
    ),
]


@pytest.mark.parametrize(("old", "new"), FIELDS)
def test_field(old, new):
    assert upgraded_layer(old) == layer_of(new)


PARAMS = [name for name in caffe_pb2.V1LayerParameter.DESCRIPTOR.fields_by_name if name.endswith("_param")]


@pytest.mark.parametrize("name", PARAMS)
def test_parameter_message_is_kept_even_if_empty(name):
    assert upgraded_layer(f"{name} {{ }}") == layer_of(f"{name} {{ }}")


def test_parameter_message_is_kept_as_it_is():
    fields = 'convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } }'
    assert upgraded_layer(fields) == layer_of(fields)


def test_both_schemas_in_one_net_are_refused():
    net = text_format.Parse('layer { name: "a" } layers { name: "b" type: RELU }', caffe_pb2.NetParameter())
    with pytest.raises(FatalError) as caught:
        upgrade.upgrade_net(net, "f")
    assert str(caught.value).startswith(
        "Refusing to upgrade inconsistent NetParameter input; "
        "the definition includes both 'layer' and 'layers' fields. "
    )
    assert "'b'" in str(caught.value)


def test_a_v0_layer_in_todays_net_is_refused_too():
    net = text_format.Parse(
        'layer { name: "a" } layers { layer { name: "b" type: "relu" } }', caffe_pb2.NetParameter()
    )
    with pytest.raises(FatalError, match="Refusing to upgrade inconsistent NetParameter input"):
        upgrade.upgrade_net(net, "f")
