"""From a net and its weights to an ONNX model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import onnx
from onnx import TensorProto, helper

import caffetools
from caffetools.blob import Blob
from caffetools.exchange import (
    detections,
    elementwise,
    losses,
    normalisation,
    of_forks,
    products,
    recurrent,
    shapes,
    windows,
)
from caffetools.exchange.graph import IR_VERSION, OPSET, Graph, Side, Step
from caffetools.glog import fatal
from caffetools.layer import Layer
from caffetools.layers import layer_class
from caffetools.layers.python import UserLayer
from caffetools.net import Net
from caffetools.net.wiring import Wiring
from caffetools.proto import caffe_pb2

Exporter = Callable[[Step], list[str]]

#: How the layers of a type are written. A user's class may have a method `to_onnx(step)` instead.
EXPORTERS: dict[str, Exporter] = {
    **detections.EXPORTERS,
    **elementwise.EXPORTERS,
    **losses.EXPORTERS,
    **normalisation.EXPORTERS,
    **of_forks.EXPORTERS,
    **products.EXPORTERS,
    **recurrent.EXPORTERS,
    **shapes.EXPORTERS,
    **windows.EXPORTERS,
}

#: The axis that the batch's size is given to in files.
BATCH = "batch"


def build(net: Net, other: Wiring | None) -> onnx.ModelProto:
    """Return the model of a net in its TEST phase.

    other: the same net with another batch, without weights; sizes that differ there are left open in the model.
    None fixes all sizes. Errors: FatalError that names the layers which ONNX has no words for.
    """
    _refuse_unknown(net.layers)
    graph = Graph()
    graph.names.update(net.inputs, net.outputs)
    values: dict[int, str] = {id(net.blobs[name]): name for name in net.inputs}
    inputs = []
    for i, layer in enumerate(net.layers):
        side = Side(layer, net.bottoms[i], net.tops[i])
        far = None if other is None else _side_of(other, i)
        if layer.type == "Input":
            fars = [None] * len(side.top) if far is None else far.top
            inputs += [_described(values[id(blob)], blob, twin) for blob, twin in zip(side.top, fars, strict=True)]
            continue
        step = Step(graph, [values[id(blob)] for blob in side.bottom], side, far)
        for blob, value in zip(side.top, _exporter(layer)(step), strict=True):
            values[id(blob)] = value
    outputs = _name_outputs(net, graph, values, other)
    body = helper.make_graph(graph.nodes, net.name or "net", inputs, outputs, initializer=graph.initializers)
    model = helper.make_model(
        body,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="caffetools",
        producer_version=caffetools.__version__,
    )
    onnx.checker.check_model(model)
    return model


def _exporter(layer: Layer) -> Exporter | None:
    own = layer.user if isinstance(layer, UserLayer) else layer
    return getattr(own, "to_onnx", EXPORTERS.get(layer.type))


def check_types(param: caffe_pb2.NetParameter) -> None:
    """Refuse types that ONNX has no words for before a net is built: building may write files, as HDF5Output does.

    Errors: FatalError that names their layers. Those of users' classes are seen when they are there.
    """
    _refuse([layer for layer in param.layer if layer.type != "Input" and _is_unknown(layer)])


def _is_unknown(layer: caffe_pb2.LayerParameter) -> bool:
    kind = layer_class(layer.type, layer.name)
    return not issubclass(kind, UserLayer) and getattr(kind, "to_onnx", EXPORTERS.get(layer.type)) is None


def _refuse_unknown(layers: Sequence[Layer]) -> None:
    _refuse([layer for layer in layers if layer.type != "Input" and _exporter(layer) is None])


def _refuse(unknown: Sequence[Layer | caffe_pb2.LayerParameter]) -> None:
    if unknown:
        names = ", ".join(f"'{layer.name}' ({layer.type})" for layer in unknown)
        written = any(isinstance(layer, UserLayer) for layer in unknown)
        fatal(
            f"ONNX has no operations for: {names}. Export a net without them, such as the deploy net"
            f"{', or give your class a method to_onnx(step)' if written else ''}."
        )


def _side_of(wiring: Wiring, index: int) -> Side:
    blobs = wiring.blobs
    return Side(
        wiring.layers[index],
        [blobs[i] for i in wiring.bottom_ids[index]],
        [blobs[i] for i in wiring.top_ids[index]],
    )


def _described(
    name: str, blob: Blob, other: Blob | None, open_axes: Mapping[int, str] | None = None
) -> onnx.ValueInfoProto:
    """Return the name and the shape of an input or output; sizes that change have names."""
    sizes = blob.shape if other is None else other.shape
    shape = [size if size == twin else BATCH for size, twin in zip(blob.shape, sizes, strict=True)]
    if other is not None and blob.shape and shape[0] == BATCH and shape.count(BATCH) > 1:
        shape = [BATCH if i == 0 else None for i in range(len(shape))]
    for axis, size in (open_axes or {}).items():
        shape[axis] = size
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _name_outputs(net: Net, graph: Graph, values: dict[int, str], other: Wiring | None) -> list[onnx.ValueInfoProto]:
    """Give the net's outputs their blobs' names."""
    outputs, made = [], {value: node for node in graph.nodes for value in node.output}
    for name in net.outputs:
        blob = net.blobs[name]
        value = values[id(blob)]
        if value in made and value not in net.outputs:
            for node in graph.nodes:
                for field in (node.input, node.output):
                    for i, used in enumerate(field):
                        if used == value:
                            field[i] = name
            for key, known in values.items():
                if known == value:
                    values[key] = name
            made[name] = made.pop(value)
        elif value != name:  # a constant, or a value that is an output under another name already
            graph.nodes.append(helper.make_node("Identity", [value], [name], name=graph.name(f"{name}/Identity")))
        twin = None if other is None else other.blobs[other.blob_names.index(name)]
        outputs.append(_described(name, blob, twin, graph.open_axes.get(id(blob))))
    return outputs
