"""Preprocessing fields of V1 data layers move to `transform_param`, where all data layers have them since."""

from __future__ import annotations

from google.protobuf.message import Message

from caffetools.proto import caffe_pb2
from caffetools.upgrade.passes import Pass

_V1 = caffe_pb2.V1LayerParameter

#: Type of a data layer -> its parameter message.
PARAMS = {_V1.DATA: "data_param", _V1.IMAGE_DATA: "image_data_param", _V1.WINDOW_DATA: "window_data_param"}
FIELDS = ("scale", "mean_file", "crop_size", "mirror")


def needs_transform(net: caffe_pb2.NetParameter) -> bool:
    """Whether a V1 data layer has a preprocessing field of its own."""
    return any(_old_fields(layer) for layer in net.layers)


def upgrade_transform(net: caffe_pb2.NetParameter) -> caffe_pb2.NetParameter:
    """Return the net with the preprocessing fields of V1 data layers in `transform_param`."""
    upgraded = caffe_pb2.NetParameter()
    upgraded.MergeFrom(net)
    for layer in upgraded.layers:
        for name in _old_fields(layer):
            setattr(layer.transform_param, name, getattr(_param(layer), name))
            _param(layer).ClearField(name)
    return upgraded


def _param(layer: caffe_pb2.V1LayerParameter) -> Message:
    return getattr(layer, PARAMS[layer.type])


def _old_fields(layer: caffe_pb2.V1LayerParameter) -> list[str]:
    return [name for name in FIELDS if layer.type in PARAMS and _param(layer).HasField(name)]


TRANSFORM_PASS = Pass(
    needed=needs_transform,
    run=upgrade_transform,
    attempt="Attempting to upgrade input file specified using deprecated transformation parameters",
    success="Successfully upgraded file specified using deprecated data transformation parameters.",
    outlook=(
        "Note that future Caffe releases will only support transform_param messages "
        "for transformation fields."
    ),
)
