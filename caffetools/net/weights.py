"""Weights into a net and out of it: by layer name, from another net, a caffemodel or an HDF5 file.

Source layers without a namesake are ignored with a line in the log; the namesake's blobs must agree in number and
shape.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from caffetools import upgrade
from caffetools.blob import shape_text
from caffetools.formats import blob as blob_format
from caffetools.formats import hdf5
from caffetools.glog import check, check_eq, fatal, info
from caffetools.proto import caffe_pb2


def split_list(names: str) -> list[str]:
    """Split a comma list of files as `--weights=a,b` takes it; blanks around the names do not count."""
    return [name.strip() for name in names.split(",") if name.strip()]


def share_from(net, other) -> None:
    """Let the layers of `net` use the parameters of the layers of the same name in `other`, without a copy."""
    for source, target in _namesakes(net, other.layers):
        for i, (mine, theirs) in enumerate(zip(target.blobs, source.blobs, strict=True)):
            if mine.shape != theirs.shape:
                fatal(
                    f"Check failed: target_blobs[j]->shape() == source_blob->shape() Cannot share param {i} weights "
                    f"from layer '{source.name}'; shape mismatch.  Source param shape is {theirs.shape_string}; "
                    f"target param shape is {mine.shape_string}"
                )
            mine.share_data(theirs)


_STATE = "holds the state of a solver: give it to --snapshot to resume, or its .caffemodel to --weights"
#: By the ends of names: what such a file is, and what to do with it.
_NO_WEIGHTS = {
    ".solverstate": _STATE,
    ".solverstate.h5": _STATE,
    ".safetensors": "holds weights as safetensors: `caffe import` makes a caffemodel of them",
    ".prototxt": "is a definition, without weights: those are in a .caffemodel",
}


def copy_from(net, path: str) -> None:
    """Copy weights from a file: HDF5 where the name ends in `.h5`, a binary NetParameter, new or old, otherwise.

    Errors: FatalError for files of another kind, with what to do with them, and for weights that do not fit.
    """
    for ending, advice in _NO_WEIGHTS.items():
        if str(path).endswith(ending):
            failed = "Check failed: ReadProtoFromBinaryFile(param_file, param) Failed to parse NetParameter file:"
            fatal(f"{failed} {path} (it {advice})")
    if str(path).endswith(".h5"):
        copy_from_hdf5(net, path)
    else:
        copy_from_proto(net, upgrade.read_net_binary(path))


def copy_from_proto(net, param: caffe_pb2.NetParameter) -> None:
    """Copy weights from a NetParameter."""
    for source, target in _namesakes(net, param.layer):
        for i, (mine, theirs) in enumerate(zip(target.blobs, source.blobs, strict=True)):
            if not blob_format.shapes_match(theirs, mine.shape):
                _refuse_shape(source.name, i, blob_format.shape_of(theirs), mine)
            _copy(mine, blob_format.to_array(theirs), source.name)


def copy_from_hdf5(net, path: str) -> None:
    """Copy weights from an HDF5 file."""
    owned = {(use.layer, use.index): use.owner < 0 for use in net.param_uses}
    for name, arrays in hdf5.read_net(path).items():
        target = net.layer_by_name.get(name)
        if target is None:
            info(f"Ignoring source layer {name}")
            continue
        layer_index = net.layer_index[name]
        check(
            max(arrays, default=-1) < len(target.blobs),
            "num_source_params <= target_blobs.size()",
            f"Incompatible number of blobs for layer {name}",
        )
        for i, mine in enumerate(target.blobs):
            if i in arrays:
                if arrays[i].shape != mine.shape:
                    _refuse_shape(name, i, arrays[i].shape, mine)
                _copy(mine, arrays[i], name)
            elif owned[layer_index, i]:
                # A file keeps a shared parameter with its owner only.
                fatal(f"Incompatible number of blobs for layer {name} ({path} has no parameter {i})")


def to_proto(net, diffs: bool = False) -> caffe_pb2.NetParameter:
    """Return the net with its weights as a caffemodel holds it: every layer, splits included, and their blobs."""
    result = caffe_pb2.NetParameter(name=net.name)
    for layer in net.layers:
        saved = result.layer.add()
        saved.CopyFrom(layer.param)
        del saved.blobs[:]
        for blob in layer.blobs:
            blob_format.fill_proto(saved.blobs.add(), blob.cpu_data, blob.cpu_diff if diffs else None)
    return result


def write_hdf5(net, path: str | Path, diffs: bool = False) -> None:
    """Write the weights as `data/<layer>/<index>`; a shared parameter is kept with its owner."""
    layers: dict[str, dict[int, np.ndarray]] = {}
    gradients: dict[str, dict[int, np.ndarray]] = {}
    owned = {(use.layer, use.index): use.owner < 0 for use in net.param_uses}
    for index, layer in enumerate(net.layers):
        mine = [(i, blob) for i, blob in enumerate(layer.blobs) if owned[index, i]]
        layers[layer.name] = {i: blob.cpu_data for i, blob in mine}
        gradients[layer.name] = {i: blob.cpu_diff for i, blob in enumerate(layer.blobs)}
    hdf5.write_net(path, layers, gradients if diffs else None)


def load_list(net, names: Iterable[str]) -> None:
    """Copy weights from several files, the later ones over the earlier ones."""
    for name in names:
        copy_from(net, name)


def _copy(blob, array, name):
    check_eq(
        array.size, blob.count, "count_ == proto.data_size()", f"the data of layer '{name}' is incomplete"
    )
    blob.data[...] = array.reshape(blob.shape)


def _namesakes(net, sources):
    """Yield each source layer with the layer of its name in `net`, which must have as many blobs."""
    for source in sources:
        target = net.layer_by_name.get(source.name)
        if target is None:
            info(f"Ignoring source layer {source.name}")
            continue
        check_eq(
            len(target.blobs),
            len(source.blobs),
            "target_blobs.size() == source_layer.blobs_size()",
            f"Incompatible number of blobs for layer {source.name}",
        )
        yield source, target


def _refuse_shape(name, index, shape, mine):
    fatal(
        f"Cannot copy param {index} weights from layer '{name}'; shape mismatch.  Source param shape is "
        f"{shape_text(shape)}; target param shape is {mine.shape_string}. To learn this layer's parameters from "
        "scratch rather than copying from a saved net, rename the layer."
    )


def packed_bytes(net) -> int:
    """Return what the packed weights take that layers keep from pass to pass."""
    layers = zip(net.layers, net.layer_needs_backward, net.bottom_needs_backward, strict=True)
    return sum(layer.kept_bytes(wanted if needed else None) for layer, needed, wanted in layers)
