"""The graph of a net: layers as boxes with their settings, blobs as wires with their shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from caffetools import graph as passes
from caffetools.glog import fatal
from caffetools.layer import TEST, TRAIN
from caffetools.pictures.graph import Box, Graph, Wire
from caffetools.proto import caffe_pb2

Layer = caffe_pb2.LayerParameter
PHASES = (TRAIN, TEST)
#: Of blobs, by phase and name.
Shapes = dict[tuple[int, str], tuple[int, ...]]

_KINDS = {
    "data": "AnnotatedData Data DummyData HDF5Data ImageData Input MemoryData Parameter WindowData",
    "learnt": "Convolution Deconvolution Embed InnerProduct LSTM RNN",
    "pooling": "Pooling SPP",
    "activation": "AbsVal BNLL Clip Dropout ELU Exp Log PReLU Power ReLU Sigmoid Softmax Swish TanH Threshold",
    "normalization": "BatchNorm Bias LRN MVN Scale",
    "join": "Concat Crop Eltwise Slice Split",
    "loss": "Accuracy ContrastiveLoss EuclideanLoss HingeLoss InfogainLoss MultinomialLogisticLoss "
    "SigmoidCrossEntropyLoss SoftmaxWithLoss",
}
KIND = {type_: kind for kind, types in _KINDS.items() for type_ in types.split()}


def net_graph(
    param: caffe_pb2.NetParameter, phase: int | None, shapes: Shapes, learning_rates: bool = False
) -> Graph:
    """Return the graph of a net (upgraded, not filtered).

    phase: with None both phases and all stages and levels are in one graph, and boxes tell whose their layers are;
    else the rest of the state is `param.state`. shapes: as far as they are known. learning_rates: whether boxes
    tell lr_mult and decay_mult. Layers that work in place stand in the box of the layer whose blob they change,
    unless another layer reads the blob before. Errors: FatalError for a bottom that no layer makes.
    """
    builder = _Builder(param.name, shapes, learning_rates)
    for layer in param.layer:
        if phase is None:
            builder.add(layer, [p for p in PHASES if _stays(_by_phase(layer), p)], _rules(layer))
        elif _stays(layer, phase, param.state):
            builder.add(layer, [phase], "")
    return builder.finish()


def _stays(layer: Layer, phase: int, state: caffe_pb2.NetState | None = None) -> bool:
    net = caffe_pb2.NetParameter(layer=[layer], state=state)
    net.state.phase = phase
    return bool(passes.filter_net(net).layer)


def _by_phase(layer: Layer) -> Layer:
    """Return the layer with its rules' phases alone: what it says of levels and stages is met by some state."""
    result = Layer()
    result.CopyFrom(layer)
    for rules, exclude in ((result.include, False), (result.exclude, True)):
        kept = [rule for rule in rules if not (exclude and len(rule.ListFields()) > rule.HasField("phase"))]
        phases = [
            caffe_pb2.NetStateRule(phase=rule.phase) if rule.HasField("phase") else None for rule in kept
        ]
        del rules[:]
        rules.extend(caffe_pb2.NetStateRule() if phase is None else phase for phase in phases)
    return result


def _rules(layer: Layer) -> str:
    """Return which states a layer is for, such as `TEST only` or `not deploy`; "" for all."""
    include = " or ".join(map(_rule, layer.include))
    exclude = " or ".join(map(_rule, layer.exclude))
    return f"{include} only" if include else f"not {exclude}" if exclude else ""


def _rule(rule: caffe_pb2.NetStateRule) -> str:
    parts = [caffe_pb2.Phase.Name(rule.phase)] if rule.HasField("phase") else []
    parts += [f"from level {rule.min_level}"] if rule.HasField("min_level") else []
    parts += [f"to level {rule.max_level}"] if rule.HasField("max_level") else []
    return " ".join([*parts, *rule.stage, *(f"not {stage}" for stage in rule.not_stage)]) or "all"


class _Builder:
    def __init__(self, name: str, shapes: Shapes, learning_rates: bool):
        self.graph = Graph(name)
        self.shapes = shapes
        self.learning_rates = learning_rates
        #: By phase and blob: the wires of its latest makers; they are several where rules choose one of them.
        self.latest: dict[tuple[int, str], list[int]] = {}

    def add(self, layer: Layer, phases: Sequence[int], rules: str) -> None:
        """Add a layer that is there in these phases, for the states that `rules` describes."""
        lines = describe(layer, self.learning_rates) + ([rules] if rules else [])
        sources = [self._sources(layer, index, phases) for index in range(len(layer.bottom))]
        if list(layer.bottom) == list(layer.top) and len(layer.top) == 1 and len(sources[0]) == 1:
            wire = self.graph.wires[sources[0][0]]
            if not wire.targets:
                self.graph.boxes[wire.source].stacked.append((layer.name, lines))
                return
        box = len(self.graph.boxes)
        self.graph.boxes.append(Box(layer.name, KIND.get(layer.type, "other"), lines))
        for index in dict.fromkeys(index for indices in sources for index in indices):
            self.graph.wires[index].targets.append(box)
        for blob in layer.top:
            for phase in phases:
                before = self.latest.get((phase, blob), [])
                unread = rules and not any(self.graph.wires[index].targets for index in before)
                self.latest[phase, blob] = [*(before if unread else ()), len(self.graph.wires)]
            shape = next((self.shapes[phase, blob] for phase in phases if (phase, blob) in self.shapes), ())
            self.graph.wires.append(Wire(box, blob, "×".join(map(str, shape))))

    def finish(self) -> Graph:
        """Give each blob that nobody reads a box of its own."""
        for wire in self.graph.wires:
            if not wire.targets:
                wire.targets.append(len(self.graph.boxes))
                wire.labelled = False  # the box says it all
                self.graph.boxes.append(Box(wire.blob, "blob", [wire.shape] if wire.shape else []))
        return self.graph

    def _sources(self, layer: Layer, index: int, phases: Sequence[int]) -> list[int]:
        """Return the wires that a layer may read as its bottom of this number."""
        blob = layer.bottom[index]
        wires = [wire for phase in phases for wire in self.latest.get((phase, blob), ())]
        if not wires and phases:
            fatal(f"Unknown bottom blob '{blob}' (layer '{layer.name}', bottom index {index})")
        return list(dict.fromkeys(wires))


def describe(layer: Layer, learning_rates: bool = False) -> list[str]:
    """Return a layer's type and settings, in lines of text."""
    lines = [layer.type, *(_SETTINGS[layer.type](layer) if layer.type in _SETTINGS else ())]
    if learning_rates and (layer.param or KIND.get(layer.type) == "learnt"):
        rates = [f"{param.lr_mult:g}" for param in layer.param] or ["1"]
        decays = [f"{param.decay_mult:g}" for param in layer.param] or ["1"]
        lines.append(f"lr × {', '.join(rates)}; decay × {', '.join(decays)}")
    return lines


def _sizes(values: Iterable[int], height: int, width: int, default: int) -> str:
    """Return sizes along the spatial axes: 3 where all are, else 3×5. height, width: the fields of 2-D layers."""
    sizes = list(values) or [height or default, width or default]
    return str(sizes[0]) if len(set(sizes)) == 1 else "×".join(map(str, sizes))


def _many(values: Iterable[int], default: int) -> str:
    return _sizes(values, 0, 0, default)


def _convolution(layer: Layer) -> list[str]:
    p = layer.convolution_param
    window = f"kernel {_sizes(p.kernel_size, p.kernel_h, p.kernel_w, 0)}"
    window += f", stride {_sizes(p.stride, p.stride_h, p.stride_w, 1)}"
    window += f", pad {_sizes(p.pad, p.pad_h, p.pad_w, 0)}"
    if any(size != 1 for size in p.dilation):
        window += f", dilation {_many(p.dilation, 1)}"
    outputs = f"{p.num_output} outputs"
    return [window, outputs + (f", {p.group} groups" if p.group > 1 else "")]


def _pooling(layer: Layer) -> list[str]:
    p = layer.pooling_param
    method = caffe_pb2.PoolingParameter.PoolMethod.Name(p.pool)
    if p.global_pooling:
        return [f"{method}, global"]
    kernel = _sizes([p.kernel_size] if p.kernel_size else (), p.kernel_h, p.kernel_w, 0)
    stride = _sizes([p.stride] if p.HasField("stride") else (), p.stride_h, p.stride_w, 1)
    pad = _sizes([p.pad] if p.pad else (), p.pad_h, p.pad_w, 0)
    return [f"{method}, kernel {kernel}, stride {stride}, pad {pad}"]


def _eltwise(layer: Layer) -> list[str]:
    return [caffe_pb2.EltwiseParameter.EltwiseOp.Name(layer.eltwise_param.operation)]


def _reader(message: str) -> Callable[[Layer], list[str]]:
    return lambda layer: [f"batch {getattr(layer, message).batch_size}"]


def _outputs(message: str) -> Callable[[Layer], list[str]]:
    return lambda layer: [f"{getattr(layer, message).num_output} outputs"]


_SETTINGS: dict[str, Callable[[Layer], list[str]]] = {
    "AnnotatedData": _reader("data_param"),
    "Accuracy": lambda layer: [f"top {layer.accuracy_param.top_k}"],
    "Concat": lambda layer: [f"axis {layer.concat_param.axis}"],
    "Convolution": _convolution,
    "Data": _reader("data_param"),
    "Deconvolution": _convolution,
    "Dropout": lambda layer: [f"ratio {layer.dropout_param.dropout_ratio:g}"],
    "Eltwise": _eltwise,
    "Embed": _outputs("embed_param"),
    "HDF5Data": _reader("hdf5_data_param"),
    "ImageData": _reader("image_data_param"),
    "InnerProduct": _outputs("inner_product_param"),
    "LRN": lambda layer: [f"size {layer.lrn_param.local_size}"],
    "LSTM": _outputs("recurrent_param"),
    "MemoryData": _reader("memory_data_param"),
    "Pooling": _pooling,
    "RNN": _outputs("recurrent_param"),
    "WindowData": _reader("window_data_param"),
}
