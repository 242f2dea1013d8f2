"""V0, the first schema: ``layers { layer { name type ... } bottom top }`` with all parameters in one message.

Padding was a layer of its own there; it becomes the `pad` of the convolution or pooling behind it. Then each
V0 layer becomes a V1 layer, its parameters sorted into the parameter message of its type.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from google.protobuf.message import Message

from caffetools.glog import check, check_eq, fatal
from caffetools.proto import caffe_pb2
from caffetools.upgrade.passes import Pass, carry_over

PADDING = "padding"

#: V0's name of a layer type -> V1's.
TYPES = {
    "accuracy": "ACCURACY",
    "bnll": "BNLL",
    "concat": "CONCAT",
    "conv": "CONVOLUTION",
    "data": "DATA",
    "dropout": "DROPOUT",
    "euclidean_loss": "EUCLIDEAN_LOSS",
    "flatten": "FLATTEN",
    "hdf5_data": "HDF5_DATA",
    "hdf5_output": "HDF5_OUTPUT",
    "im2col": "IM2COL",
    "images": "IMAGE_DATA",
    "infogain_loss": "INFOGAIN_LOSS",
    "innerproduct": "INNER_PRODUCT",
    "lrn": "LRN",
    "multinomial_logistic_loss": "MULTINOMIAL_LOGISTIC_LOSS",
    "pool": "POOLING",
    "relu": "RELU",
    "sigmoid": "SIGMOID",
    "softmax": "SOFTMAX",
    "softmax_loss": "SOFTMAX_LOSS",
    "split": "SPLIT",
    "tanh": "TANH",
    "window_data": "WINDOW_DATA",
}

_CONV, _IP, _POOL = "convolution_param", "inner_product_param", "pooling_param"
_DATA, _HDF5, _IMAGES, _WINDOW = "data_param", "hdf5_data_param", "image_data_param", "window_data_param"

#: V0 field -> where it belongs: by V0 layer type, the path inside V1LayerParameter.
PLACES: dict[str, dict[str, str]] = {
    "num_output": {"conv": f"{_CONV}.num_output", "innerproduct": f"{_IP}.num_output"},
    "biasterm": {"conv": f"{_CONV}.bias_term", "innerproduct": f"{_IP}.bias_term"},
    "weight_filler": {"conv": f"{_CONV}.weight_filler", "innerproduct": f"{_IP}.weight_filler"},
    "bias_filler": {"conv": f"{_CONV}.bias_filler", "innerproduct": f"{_IP}.bias_filler"},
    "pad": {"conv": f"{_CONV}.pad", "pool": f"{_POOL}.pad"},
    "kernelsize": {"conv": f"{_CONV}.kernel_size", "pool": f"{_POOL}.kernel_size"},
    "group": {"conv": f"{_CONV}.group"},
    "stride": {"conv": f"{_CONV}.stride", "pool": f"{_POOL}.stride"},
    "pool": {"pool": f"{_POOL}.pool"},
    "dropout_ratio": {"dropout": "dropout_param.dropout_ratio"},
    "local_size": {"lrn": "lrn_param.local_size"},
    "alpha": {"lrn": "lrn_param.alpha"},
    "beta": {"lrn": "lrn_param.beta"},
    "k": {"lrn": "lrn_param.k"},
    "source": {
        "data": f"{_DATA}.source",
        "hdf5_data": f"{_HDF5}.source",
        "images": f"{_IMAGES}.source",
        "window_data": f"{_WINDOW}.source",
        "infogain_loss": "infogain_loss_param.source",
    },
    "batchsize": {
        "data": f"{_DATA}.batch_size",
        "hdf5_data": f"{_HDF5}.batch_size",
        "images": f"{_IMAGES}.batch_size",
        "window_data": f"{_WINDOW}.batch_size",
    },
    "rand_skip": {"data": f"{_DATA}.rand_skip", "images": f"{_IMAGES}.rand_skip"},
    "shuffle_images": {"images": f"{_IMAGES}.shuffle"},
    "new_num": {},
    "new_channels": {},
    "new_height": {"images": f"{_IMAGES}.new_height"},
    "new_width": {"images": f"{_IMAGES}.new_width"},
    "concat_dim": {"concat": "concat_param.concat_dim"},
    "det_fg_threshold": {"window_data": f"{_WINDOW}.fg_threshold"},
    "det_bg_threshold": {"window_data": f"{_WINDOW}.bg_threshold"},
    "det_fg_fraction": {"window_data": f"{_WINDOW}.fg_fraction"},
    "det_context_pad": {"window_data": f"{_WINDOW}.context_pad"},
    "det_crop_mode": {"window_data": f"{_WINDOW}.crop_mode"},
    "hdf5_output_param": {"hdf5_output": "hdf5_output_param"},
}

#: V0 field -> the path inside V1LayerParameter, whatever the type.
COMMON_PLACES = {
    "name": "name",
    "blobs": "blobs",
    "blobs_lr": "blobs_lr",
    "weight_decay": "weight_decay",
    "scale": "transform_param.scale",
    "meanfile": "transform_param.mean_file",
    "cropsize": "transform_param.crop_size",
    "mirror": "transform_param.mirror",
}

#: The names of fields in the original's error lines, where they are others.
_SPOKEN = {"shuffle_images": "shuffle"}


def needs_v0(net: caffe_pb2.NetParameter) -> bool:
    """Whether any layer is a V0 layer."""
    return any(connection.HasField("layer") for connection in net.layers)


def upgrade_v0(net: caffe_pb2.NetParameter) -> caffe_pb2.NetParameter:
    """Return the net with V1 layers in place of V0 ones."""
    upgraded = caffe_pb2.NetParameter()
    carry_over(net, upgraded, leave=("layers",))
    for connection in fold_padding(net).layers:
        layer = upgraded.layers.add()
        carry_over(connection, layer, leave=("layer",))
        if connection.HasField("layer"):
            _upgrade_layer(connection.layer, layer)
    return upgraded


def misplaced_fields(net: caffe_pb2.NetParameter) -> list[str]:
    """One line for each parameter that the type of its layer does not know, and that is lost."""
    lines = []
    for connection in net.layers:
        kind = connection.layer.type
        if kind == PADDING:
            continue  # folded away, so that no parameter of it is left to place
        for name, places in PLACES.items():
            if _is_set(connection.layer, name) and kind not in places:
                lines.append(f"Unknown parameter {_SPOKEN.get(name, name)} for layer type {kind}")
    return lines


def fold_padding(net: caffe_pb2.NetParameter) -> caffe_pb2.NetParameter:
    """Return the V0 net without padding layers: the convolution or pooling behind one pads for it."""
    folded = caffe_pb2.NetParameter()
    carry_over(net, folded, leave=("layers",))
    latest: dict[str, caffe_pb2.V1LayerParameter | None] = dict.fromkeys(net.input)
    for index, connection in enumerate(net.layers):
        if connection.layer.type == PADDING:
            layer = connection
        else:
            layer = folded.layers.add()
            layer.MergeFrom(connection)
        for bottom, blob in enumerate(connection.bottom):
            if blob not in latest:
                fatal(f"Unknown blob input {blob} to layer {index} ('{connection.layer.name}')")
            producer = latest[blob]
            if producer is not None and producer.layer.type == PADDING:
                _refuse_odd_padding(producer, connection)
                layer.layer.pad += producer.layer.pad
                layer.bottom[bottom] = producer.bottom[0]
        latest.update(dict.fromkeys(connection.top, connection))
    return folded


def _refuse_odd_padding(padding: caffe_pb2.V1LayerParameter, user: caffe_pb2.V1LayerParameter) -> None:
    kind = user.layer.type
    check(
        kind in ("conv", "pool"),
        '(layer_param.type() == "conv") || (layer_param.type() == "pool")',
        f"Padding layer input to non-convolutional / non-pooling layer type {kind}",
    )
    for connection, blobs, expression, message in (
        (user, user.bottom, "layer_connection.bottom", "Conv Layer takes a single blob as input."),
        (padding, padding.bottom, "source_layer.bottom", "Padding Layer takes a single blob as input."),
        (padding, padding.top, "source_layer.top", "Padding Layer produces a single blob as output."),
    ):
        check_eq(len(blobs), 1, f"{expression}_size() == 1", f"{message} (layer '{connection.layer.name}')")


def _upgrade_layer(old: caffe_pb2.V0LayerParameter, layer: caffe_pb2.V1LayerParameter) -> None:
    if old.HasField("type"):
        layer.type = caffe_pb2.V1LayerParameter.LayerType.Value(_v1_type(old))
    for name, path in _places(old):
        _place(getattr(old, name), layer, path)


def _v1_type(old: caffe_pb2.V0LayerParameter) -> str:
    if old.type in TYPES:
        return TYPES[old.type]
    near = difflib.get_close_matches(old.type, TYPES, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    fatal(f"Unknown layer name: {old.type} (layer '{old.name}'{hint})")


def _places(old: caffe_pb2.V0LayerParameter) -> Iterator[tuple[str, str]]:
    """The set fields of a layer that have a place, and that place."""
    for name, path in COMMON_PLACES.items():
        if _is_set(old, name):
            yield name, path
    for name, places in PLACES.items():
        if _is_set(old, name) and old.type in places:
            yield name, places[old.type]


def _place(value: object, layer: Message, path: str) -> None:
    """Put a field's value at a path such as ``convolution_param.pad``."""
    *messages, name = path.split(".")
    for message in messages:
        layer = getattr(layer, message)
    if hasattr(value, "MergeFrom"):
        getattr(layer, name).MergeFrom(value)
    elif hasattr(getattr(layer, name), "append"):  # one for each axis since: pad, kernel_size, stride
        getattr(layer, name).append(value)
    else:
        setattr(layer, name, value)


def _is_set(message: Message, name: str) -> bool:
    value = getattr(message, name)
    return bool(value) if hasattr(value, "append") else message.HasField(name)


V0_PASS = Pass(
    needed=needs_v0,
    run=upgrade_v0,
    problems=misplaced_fields,
    attempt="Attempting to upgrade input file specified using deprecated V0LayerParameter",
    success="Successfully upgraded file specified using deprecated V0LayerParameter",
    trouble=(
        "Warning: had one or more problems upgrading V0NetParameter to NetParameter (see above); "
        "continuing anyway."
    ),
    outlook=(
        "Note that future Caffe releases will not support V0NetParameter; "
        "use ./build/tools/upgrade_net_proto_text for prototxt and ./build/tools/upgrade_net_proto_binary "
        "for model weights upgrade this and any other net protos to the new format."
    ),
)
