"""Weights as safetensors files hold them: one tensor for each parameter, under names that tell what it is.

A tensor is called LAYER.PART, such as `conv1.weight`. PART comes from the table below, or is the parameter's number
in layers of other types; numbers are understood for all. Values and shapes are those of the caffemodel.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from caffetools.formats import blob as blob_format
from caffetools.formats.files import atomic_path, reason
from caffetools.glog import fatal
from caffetools.layer import Layer
from caffetools.net import Net
from caffetools.proto import caffe_pb2
from caffetools.solver.names import hint

WEIGHT_BIAS = ("weight", "bias")

#: What the parameters of a type are called. BatchNorm's are sums: mean / scale_factor is the mean.
PARTS: Mapping[str, tuple[str, ...]] = {
    "BatchNorm": ("mean", "variance", "scale_factor"),
    "Bias": ("bias",),
    "Convolution": WEIGHT_BIAS,
    "Deconvolution": WEIGHT_BIAS,
    "Embed": WEIGHT_BIAS,
    "InnerProduct": WEIGHT_BIAS,
    "PReLU": ("weight",),
    "Scale": WEIGHT_BIAS,
}


def names_of(layer: str, kind: str, count: int) -> list[str]:
    """Return the names of the tensors of a layer with `count` parameters."""
    parts = PARTS.get(kind, ())
    return [f"{layer}.{parts[i] if i < len(parts) else i}" for i in range(count)]


def write(path: str | os.PathLike[str], param: caffe_pb2.NetParameter) -> int:
    """Write the weights of a net, in the current format, and return how many tensors there are."""
    tensors = {}
    for layer in param.layer:
        names = names_of(layer.name, layer.type, len(layer.blobs))
        for name, proto in zip(names, layer.blobs, strict=True):
            tensors[name] = np.ascontiguousarray(blob_format.to_array(proto))
    if not tensors:
        fatal(f"{path}: the model has no weights, so that there is nothing to write")
    content = save(tensors, metadata={"format": "caffe", "net": param.name})
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write(content)
    return len(tensors)


def read(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read all tensors of a file by their names. Errors: FatalError for a file that is none."""
    try:
        return load_file(path)
    except OSError as err:
        fatal(f"Cannot read {path}: {reason(err)}")
    except SafetensorError as err:
        fatal(f"{path} is no safetensors file: {err}")


def fill(net: Net, tensors: Mapping[str, np.ndarray], path: str | os.PathLike[str]) -> list[str]:
    """Copy tensors into a net's parameters and return the names that the net has no place for.

    Errors: FatalError for a parameter without a tensor, and for shapes that do not agree.
    """
    left = dict.fromkeys(tensors)
    for use in net.param_uses:
        if use.owner >= 0:  # a shared parameter lies with its owner
            _forget(left, net.layers[use.layer], use.index)
            continue
        layer = net.layers[use.layer]
        name = _find(layer, use.index, tensors)
        if name is None:
            fatal(
                f"{path} has no tensor '{_name(layer, use.index)}' for parameter {use.index} of layer "
                f"'{layer.name}' ({layer.type}){hint(_name(layer, use.index), _strays(net, tensors))}"
            )
        blob, values = layer.blobs[use.index], tensors[name]
        if values.shape != blob.shape:
            fatal(
                f"{path}: tensor '{name}' has the shape {values.shape}, parameter {use.index} of layer "
                f"'{layer.name}' has {blob.shape}"
            )
        blob.data[...] = values
        left.pop(name, None)
    return list(left)


def _strays(net: Net, tensors: Mapping[str, np.ndarray]) -> list[str]:
    """Return the names of tensors that are of no parameter."""
    wanted = {_name(net.layers[use.layer], use.index) for use in net.param_uses}
    return [name for name in tensors if name not in wanted]


def _name(layer: Layer, index: int) -> str:
    return names_of(layer.name, layer.type, len(layer.blobs))[index]


def _find(layer: Layer, index: int, tensors: Mapping[str, np.ndarray]) -> str | None:
    candidates = (_name(layer, index), f"{layer.name}.{index}")
    return next((name for name in candidates if name in tensors), None)


def _forget(left: dict[str, None], layer: Layer, index: int) -> None:
    left.pop(_name(layer, index), None)
    left.pop(f"{layer.name}.{index}", None)
