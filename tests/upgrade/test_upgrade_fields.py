"""Preprocessing fields of data layers, input fields, BatchNorm statistics."""

from __future__ import annotations

import pytest
from google.protobuf import text_format

from caffetools import upgrade
from caffetools.glog import FatalError
from caffetools.proto import caffe_pb2


def net_of(text: str) -> caffe_pb2.NetParameter:
    return text_format.Parse(text, caffe_pb2.NetParameter())


def passed(net: caffe_pb2.NetParameter) -> caffe_pb2.NetParameter:
    """What the passes make of a net, before it loses what its layers do not read."""
    return upgrade.run_passes(upgrade.NET_PASSES, net, "f").message


DATA_LAYERS = [
    ("DATA", "Data", "data_param"),
    ("IMAGE_DATA", "ImageData", "image_data_param"),
    ("WINDOW_DATA", "WindowData", "window_data_param"),
]
TRANSFORMS = [
    "scale: 0.5",
    'mean_file: "m"',
    "crop_size: 7",
    "mirror: true",
    "mirror: false",
    'scale: 2 mean_file: "m"',
]


@pytest.mark.parametrize("fields", TRANSFORMS)
@pytest.mark.parametrize(("old", "new", "param"), DATA_LAYERS)
def test_transformation(old, new, param, fields, log):
    net = net_of(f"layers {{ type: {old} {param} {{ batch_size: 4 {fields} }} }}")
    expected = net_of(f'layer {{ type: "{new}" {param} {{ batch_size: 4 }} transform_param {{ {fields} }} }}')
    assert passed(net) == expected
    assert log()[:3] == [
        "Attempting to upgrade input file specified using deprecated transformation parameters: f",
        "Successfully upgraded file specified using deprecated data transformation parameters.",
        "Note that future Caffe releases will only support transform_param messages "
        "for transformation fields.",
    ]


def test_transformation_joins_what_transform_param_has():
    net = net_of("layers { type: DATA data_param { scale: 0.5 } transform_param { mirror: true scale: 3 } }")
    (layer,) = passed(net).layer
    assert layer.transform_param == caffe_pb2.TransformationParameter(mirror=True, scale=0.5)


UNTOUCHED = [
    "layers { type: DATA data_param { batch_size: 4 } }",
    "layers { type: DATA image_data_param { scale: 2 } }",
    "layers { type: DATA transform_param { scale: 2 } }",
    "layers { type: HDF5_DATA data_param { scale: 2 } }",
    'layer { type: "Data" data_param { scale: 2 } }',
]


@pytest.mark.parametrize("text", UNTOUCHED)
def test_no_transformation_to_move(text, log):
    new = passed(net_of(text))
    assert not [line for line in log() if "transformation" in line]
    assert new == net_of(
        text.replace("layers", "layer").replace("HDF5_DATA", '"HDF5Data"').replace(": DATA", ': "Data"')
    )


INPUTS = {
    "dims": (
        'input: "x" input_dim: 1 input_dim: 2 input_dim: 3 input_dim: 4',
        'top: "x" input_param { shape { dim: 1 dim: 2 dim: 3 dim: 4 } }',
    ),
    "dims of two": (
        'input: "x" input: "y" input_dim: [1, 2, 3, 4, 5, 6, 7, 8]',
        'top: "x" top: "y" input_param { shape { dim: [1, 2, 3, 4] } shape { dim: [5, 6, 7, 8] } }',
    ),
    "shape": (
        'input: "x" input_shape { dim: 5 dim: 6 }',
        'top: "x" input_param { shape { dim: 5 dim: 6 } }',
    ),
    "shapes of two": (
        'input: "x" input: "y" input_shape { dim: 5 dim: 6 } input_shape { }',
        'top: "x" top: "y" input_param { shape { dim: 5 dim: 6 } shape { } }',
    ),
    "shape before dims": (
        'input: "x" input_shape { dim: 5 } input_dim: 1 input_dim: 2 input_dim: 3 input_dim: 4',
        'top: "x" input_param { shape { dim: 5 } }',
    ),
    "surplus": (
        'input: "x" input_dim: [1, 2, 3, 4, 5, 6, 7, 8]',
        'top: "x" input_param { shape { dim: [1, 2, 3, 4] } }',
    ),
}


@pytest.mark.parametrize(("old", "new"), INPUTS.values(), ids=INPUTS)
def test_input(old, new, log):
    net = net_of(f'name: "n" {old} layer {{ name: "a" }} layer {{ name: "b" }}')
    expected = net_of(
        f'name: "n" layer {{ name: "input" type: "Input" {new} }} layer {{ name: "a" }} layer {{ name: "b" }}'
    )
    assert upgrade.upgrade_net(net, "f") == expected
    assert log() == [
        "Attempting to upgrade input file specified using deprecated input fields: f",
        "Successfully upgraded file specified using deprecated input fields.",
        "Note that future Caffe releases will only support input layers and not input fields.",
    ]


def test_input_without_shape_is_dropped():
    assert upgrade.upgrade_net(net_of('input: "x" layer { name: "a" }'), "f") == net_of('layer { name: "a" }')


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            'input: "x" input: "y" input_shape { dim: 1 }',
            "The net has 2 input but 1 input_shape; write one for each.",
        ),
        (
            'input: "x" input: "y" input_dim: [1, 2, 3, 4]',
            "The net has 2 input but 4 input_dim; "
            "write 4 for each input (batch, channels, height, width), or an input_shape.",
        ),
    ],
)
def test_too_few_shapes(text, message):
    with pytest.raises(FatalError) as caught:
        upgrade.upgrade_net(net_of(text), "f")
    assert str(caught.value) == message


def test_batch_norm_statistics_are_frozen(log):
    net = net_of(
        'layer { type: "BatchNorm" param { lr_mult: 1 } param { name: "v" } param { decay_mult: 2 } }'
    )
    expected = net_of(
        """
        layer {
          type: "BatchNorm"
          param { lr_mult: 0 decay_mult: 0 }
          param { name: "v" lr_mult: 0 decay_mult: 0 }
          param { lr_mult: 0 decay_mult: 0 }
        }
        """
    )
    assert upgrade.upgrade_net(net, "f") == expected
    assert log() == [
        "Attempting to upgrade batch norm layers using deprecated params: f",
        "Successfully upgraded batch norm layers using deprecated params.",
    ]


@pytest.mark.parametrize(
    "layer",
    [
        'type: "BatchNorm"',
        'type: "BatchNorm" param { lr_mult: 1 } param { lr_mult: 1 }',
        'type: "Scale" param { lr_mult: 1 } param { lr_mult: 1 } param { lr_mult: 1 }',
    ],
)
def test_other_params_stay(layer):
    net = net_of(f"layer {{ {layer} }}")
    assert upgrade.upgrade_net(net, "f") is net
