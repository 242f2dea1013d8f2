"""Settings of V0 and V1 layers that their types never read.

The original carried them along without a word, and the upgrade tools write them. Layers of today's form refuse
them (`caffetools/layers/unread.py`); a net that is upgraded to be run loses them, with a warning, and so runs
as it ever did.
"""

from __future__ import annotations

from collections.abc import Iterator

from caffetools.glog import warning
from caffetools.proto import caffe_pb2
from caffetools.upgrade.v1 import TYPES

#: Messages that types read, where these are not the one of the type's own name alone.
READ = {
    "Data": ("data_param", "transform_param"),
    "Deconvolution": ("convolution_param",),
    # Its transform_param stays, for the layer to refuse in the original's words.
    "HDF5Data": ("hdf5_data_param", "transform_param"),
    "Im2col": ("convolution_param",),
    "ImageData": ("image_data_param", "transform_param", "data_param"),
    "InfogainLoss": ("infogain_loss_param", "loss_param", "softmax_param"),
    "MemoryData": ("memory_data_param", "transform_param"),
    "SigmoidCrossEntropyLoss": ("loss_param",),
    "SoftmaxWithLoss": ("softmax_param", "loss_param"),
    "WindowData": ("window_data_param", "transform_param", "data_param"),
}
READ |= {new: (f"{old.lower()}_param",) for old, new in TYPES.items() if new and new not in READ}

_ALL_BUT_PREFETCH = tuple(
    name for name in caffe_pb2.DataParameter.DESCRIPTOR.fields_by_name if name != "prefetch"
)
#: Fields of these messages that the types do not read all the same, beyond those that move to transform_param.
UNREAD = {
    "Data": {"data_param": ("rand_skip", "force_encoded_color")},
    "Im2col": {"convolution_param": ("num_output", "bias_term", "group", "weight_filler", "bias_filler")},
    "ImageData": {"data_param": _ALL_BUT_PREFETCH},
    "InfogainLoss": {"softmax_param": ("axis",)},
    # The scale of a window_data_param moves to transform_param, but is read where it was.
    "WindowData": {"data_param": _ALL_BUT_PREFETCH, "transform_param": ("scale", "force_gray")},
}


def without_unread(net: caffe_pb2.NetParameter) -> caffe_pb2.NetParameter:
    """Return a net that was V1 or V0 without the settings that had no effect, and log what it loses."""
    result = caffe_pb2.NetParameter()
    result.CopyFrom(net)
    for layer in result.layer:
        for message, field in list(_unread(layer)):
            what = f"{message} {{ {field} }}" if field else message
            warning(f"{what} of layer '{layer.name}' has no effect, as it never had in old nets")
            owner, name = (getattr(layer, message), field) if field else (layer, message)
            owner.ClearField(name)
    return result


def _unread(layer: caffe_pb2.LayerParameter) -> Iterator[tuple[str, str]]:
    """Yield message and field of what a layer is told in vain; the field is empty for a whole message."""
    read = READ.get(layer.type)
    for descriptor, message in layer.ListFields():
        name = descriptor.name
        if read is None or not name.endswith("_param"):
            continue
        if name not in read and message.ListFields():
            yield name, ""
        given = {field.name for field, _ in message.ListFields()}
        yield from ((name, field) for field in UNREAD.get(layer.type, {}).get(name, ()) if field in given)
