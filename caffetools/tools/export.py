"""`caffe export` and `caffe import`: nets and weights for other programs, and weights from them."""

from __future__ import annotations

import os
from importlib import import_module
from types import ModuleType

from caffetools import graph, upgrade
from caffetools.formats import binary
from caffetools.formats.files import atomic_path
from caffetools.glog import FatalError, check_ge, check_gt, fatal, plain
from caffetools.layer import TEST, Context
from caffetools.net import Net
from caffetools.net.wiring import Wiring, wire
from caffetools.proto import caffe_pb2
from caffetools.tools import net_inputs


def export(
    model: str, weights: str = "", output: str = "", safetensors: str = "", inputs: str = "", batch: int = 0
) -> None:
    """Write a net as ONNX, its weights as safetensors, or both.

    model: a prototxt; its TEST phase is written. weights: its caffemodel or .h5 file; without it the weights are
    those of its fillers, which is said. output: the .onnx file. safetensors: the file for the weights; a caffemodel
    needs no net for it. inputs: shapes of inputs whose data is not at hand, such as "data:1,3,224,224". batch: the
    batch that the ONNX model is fixed to; 0 leaves it open.

    Errors: FatalError for files that cannot be read or written, packages that are not installed, and layers that ONNX
    has no operations for.
    """
    if not output and not safetensors:
        fatal("Need a place for the result: --output=MODEL.onnx, --safetensors=WEIGHTS.safetensors, or both.")
    check_ge(batch, 0, "FLAGS_batch >= 0", "A batch cannot have a negative size; 0 leaves it open.")
    if safetensors and not weights:
        fatal("--safetensors writes weights: name them, --weights=FILE.caffemodel")
    if output or weights.endswith(".h5"):
        check_gt(len(model), 0, "FLAGS_model.size() > 0", "Need a model definition to export.")
    if safetensors:
        files = _exchange("weight_files", "safetensors")
        count = files.write(safetensors, _weights_of(model, weights, inputs))
        plain(f"Wrote {count} tensors to {safetensors}")
    if output:
        _write_onnx(model, weights, output, inputs, batch)


def _write_onnx(model, weights, output, inputs, batch):
    writer = _exchange("onnx_model", "onnx")
    param = _definition(model, inputs)
    if batch:
        param = net_inputs.with_batch(param, batch)
    writer.check_types(param)
    net = _net(param, weights)
    if not weights:
        plain("No --weights: the model gets what the net's fillers make.")
    other = None if batch else _with_another_batch(param)
    content = writer.build(net, other).SerializeToString()
    net.close()
    with atomic_path(output) as temporary, open(temporary, "wb") as file:
        file.write(content)
    plain(f"Wrote {output} with {'a batch of any size' if other else 'fixed sizes'}")


def import_weights(model: str, safetensors: str, output: str, inputs: str = "") -> None:
    """Write a caffemodel with the tensors of a safetensors file.

    model: the net that they are for. safetensors: the file. output: the caffemodel. inputs: as for `export`.
    """
    for name, value, what in (
        ("model", model, "a model definition that the weights are for"),
        ("safetensors", safetensors, "the file to import, --safetensors=FILE"),
        ("output", output, "a place for the caffemodel"),
    ):
        check_gt(len(value), 0, f"FLAGS_{name}.size() > 0", f"Need {what}.")
    files = _exchange("weight_files", "safetensors")
    tensors = files.read(safetensors)
    net = _net(_definition(model, inputs), "")
    left = files.fill(net, tensors, safetensors)
    if left:
        plain(f"The net has no place for {len(left)} of {len(tensors)} tensors: {', '.join(left[:8])}")
    binary.write(output, net.to_proto())
    net.close()
    plain(f"Wrote {output}")


def _exchange(module: str, package: str) -> ModuleType:
    """Import a writer, or say which package it lacks."""
    try:
        return import_module(f"caffetools.exchange.{module}")
    except ModuleNotFoundError as err:
        if err.name != package:
            raise
        fatal(f"The package {package} is not installed: pip install 'caffetools[export]'")


def _definition(model: str, inputs: str) -> caffe_pb2.NetParameter:
    """Read a net in the TEST phase, with Input layers for its data."""
    param = upgrade.read_net_text(os.fspath(model))
    param.state.phase = TEST
    return net_inputs.with_inputs(graph.filter_net(param), net_inputs.parse_shapes(inputs))


def _net(param: caffe_pb2.NetParameter, weights: str) -> Net:
    net = Net(param, Context(TEST, fill=not weights))
    if weights:
        net.copy_from(weights)
    return net


def _weights_of(model: str, weights: str, inputs: str) -> caffe_pb2.NetParameter:
    if not model:
        return upgrade.read_net_binary(weights)
    net = _net(_definition(model, inputs), weights)
    net.close()
    return net.to_proto()


def _with_another_batch(param: caffe_pb2.NetParameter) -> Wiring | None:
    """Build the net with twice its batch; None where it does not build, so that its sizes are fixed."""
    batch = net_inputs.batch_size(param)
    if not batch:
        return None
    try:
        return wire(graph.insert_splits(net_inputs.with_batch(param, 2 * batch)), Context(TEST, fill=False))
    except FatalError as err:
        plain(f"The batch is fixed to {batch}: with another size the net does not build ({err})")
        return None
