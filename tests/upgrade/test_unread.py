"""Old nets run although they hold settings that nobody reads; the upgrade tools keep those."""

from __future__ import annotations

import pytest
from google.protobuf import text_format

from caffetools import upgrade
from caffetools.layers import layer_class
from caffetools.layers.unread import refuse_unread_settings
from caffetools.proto import caffe_pb2
from caffetools.samples.transform import MOVED, WITH_BOXES
from caffetools.upgrade.unread import READ, UNREAD
from caffetools.upgrade.v1 import TYPES

V1_MESSAGES = {
    name for name in caffe_pb2.V1LayerParameter.DESCRIPTOR.fields_by_name if name.endswith("_param")
}


def net_of(text: str) -> caffe_pb2.NetParameter:
    return text_format.Parse(text, caffe_pb2.NetParameter())


# a V1 layer, what is left of its settings, what the log says is lost
CASES = [
    ("type: RELU pooling_param { kernel_size: 2 }", "", ["pooling_param"]),
    (
        "type: EUCLIDEAN_LOSS loss_param { normalize: true } softmax_param { axis: 2 }",
        "",
        ["loss_param", "softmax_param"],
    ),
    (
        'type: DATA data_param { source: "s" rand_skip: 3 mirror: true force_encoded_color: true }',
        'data_param { source: "s" } transform_param { mirror: true }',
        ["data_param { rand_skip }", "data_param { force_encoded_color }"],
    ),
    (
        'type: IMAGE_DATA image_data_param { source: "s" } data_param { source: "t" prefetch: 9 }',
        'image_data_param { source: "s" } data_param { prefetch: 9 }',
        ["data_param { source }"],
    ),
    (
        "type: WINDOW_DATA window_data_param { scale: 2 crop_size: 9 }",
        "window_data_param { } transform_param { crop_size: 9 }",
        ["transform_param { scale }"],
    ),
    (
        "type: IM2COL convolution_param { kernel_size: 3 num_output: 2 }",
        "convolution_param { kernel_size: 3 }",
        ["convolution_param { num_output }"],
    ),
    ("type: DECONVOLUTION convolution_param { num_output: 2 }", "convolution_param { num_output: 2 }", []),
    ("type: HDF5_DATA transform_param { scale: 2 }", "transform_param { scale: 2 }", []),
    ("pooling_param { kernel_size: 2 }", "pooling_param { kernel_size: 2 }", []),
]


@pytest.mark.parametrize(("old", "left", "lost"), CASES)
def test_a_net_that_is_upgraded_loses_what_nobody_reads(old, left, lost, log):
    net = net_of(f'layers {{ name: "l" {old} }}')
    (layer,) = upgrade.upgrade_net(net, "f").layer
    kept = text_format.Parse(left, caffe_pb2.LayerParameter())
    kept.name, kept.type = "l", layer.type
    assert layer == (kept if layer.type else text_format.Parse(f'name: "l" {left}', caffe_pb2.LayerParameter()))
    told = [line for line in log() if "has no effect" in line]
    assert told == [f"{what} of layer 'l' has no effect, as it never had in old nets" for what in lost]


@pytest.mark.parametrize("old", [old for old, _, lost in CASES if lost])
def test_what_is_left_is_not_refused(old):
    (layer,) = upgrade.upgrade_net(net_of(f'layers {{ name: "l" {old} }}'), "f").layer
    refuse_unread_settings(layer_class(layer.type), layer, lambda message: [])


def test_the_tools_keep_it():
    net = net_of("layers { type: RELU pooling_param { kernel_size: 2 } }")
    outcome = upgrade.run_passes(upgrade.NET_PASSES, net, "f")
    assert outcome.message == net_of('layer { type: "ReLU" pooling_param { kernel_size: 2 } }')


def test_a_net_of_today_is_left_alone():
    net = net_of('layer { name: "l" type: "ReLU" pooling_param { kernel_size: 2 } }')
    assert upgrade.upgrade_net(net, "f") is net


@pytest.mark.parametrize("kind", sorted(set(TYPES.values()) - {""}))
def test_the_table_agrees_with_the_layers(kind):
    """What is left must be what the layer takes, field by field."""
    cls = layer_class(kind)
    extra = {"transform_param"} if kind == "HDF5Data" else set()
    assert set(READ[kind]) & V1_MESSAGES == set(cls.settings()) & V1_MESSAGES | extra
    moved = f"{'data' if kind == 'Data' else kind.removesuffix('Data').lower() + '_data'}_param"
    for message in V1_MESSAGES & set(cls.settings()):
        descriptor = caffe_pb2.LayerParameter.DESCRIPTOR.fields_by_name[message].message_type
        # Old files have no fields of our own, whose numbers begin at 10000, and none of SSD's.
        fields = {name for name in cls.refuses.get(message, ()) if descriptor.fields_by_name[name].number < 10000}
        if message == moved:
            fields -= set(MOVED)
        if message == "transform_param":
            fields -= set(WITH_BOXES)
        assert set(UNREAD.get(kind, {}).get(message, ())) == fields, message
