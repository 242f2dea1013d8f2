"""`caffe summary`: the shapes, parameters, multiply-adds and memory of a net's layers, without running it.

Multiply-adds are those of convolutions, inner products and recurrent layers, as papers count them; what works
element by element is left out. Parameters are what is learnt: a shared one counts once, and BatchNorm's
statistics are counted apart. Memory is what the net's own blobs, parameters and layers hold; the interpreter
and the engine's common buffers, some tens of megabytes, come on top.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np

from caffetools import graph, upgrade
from caffetools.blob import INT_MAX, Blob
from caffetools.glog import FatalError, check_ge, check_gt, fatal
from caffetools.layer import TEST, TRAIN, Context, Layer
from caffetools.net import planning
from caffetools.net.wiring import Wiring, wire
from caffetools.proto import caffe_pb2
from caffetools.tools import net_inputs

#: The types that slide a window over spatial axes.
WINDOWED = ("Convolution", "Deconvolution", "Im2col", "Pooling")
PHASES = {"": TRAIN, "TRAIN": TRAIN, "TEST": TEST}
FLOAT = 4  # bytes


@dataclass
class Row:
    """One layer. Memory is in bytes; that of a blob counts with the layer that makes it.

    tops: their shapes. in_place: whether it overwrites its bottom. kernel, stride, pad: along each spatial
    axis, of layers with a window. parameters: numbers that are learnt. statistics: those that BatchNorm
    gathers. multiply_adds: of the whole batch. data, diffs: values and gradients of its tops. scratch: what
    it keeps for itself, such as a copy of the input that it overwrites, or packed weights. weights: parameters
    with their gradients, and statistics.
    """

    name: str
    type: str
    tops: tuple[tuple[int, ...], ...]
    in_place: bool = False
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    pad: tuple[int, ...] = ()
    group: int = 1
    parameters: int = 0
    statistics: int = 0
    multiply_adds: int = 0
    data: int = 0
    diffs: int = 0
    scratch: int = 0
    weights: int = 0


@dataclass(frozen=True)
class Definition:
    """What is summarized: a net whose data layers have become inputs, and how many batches these would hold ahead."""

    net: caffe_pb2.NetParameter
    ahead: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Summary:
    """A net in one phase.

    batch: items of the first input, 0 if there is none. learns: whether gradients are computed. read_ahead:
    bytes of the batches that data layers make ready. shared: bytes of data, diffs and copies of data where they
    share memory, as the tools let them; kept: bytes of these copies, which are part of the layers' scratch.
    """

    name: str
    phase: int
    batch: int
    learns: bool
    rows: list[Row]
    read_ahead: int
    shared: int
    kept: int

    def total(self, field: str) -> int:
        """Return the sum of a field of all rows."""
        return sum(getattr(row, field) for row in self.rows)

    @property
    def history(self) -> int:
        """Bytes of the history of a solver with momentum: a number for each parameter."""
        return self.total("parameters") * FLOAT if self.learns else 0

    @property
    def memory(self) -> int:
        """All bytes that the net takes while it is trained, or tested, where each blob has memory of its own."""
        return sum(map(self.total, ("data", "diffs", "scratch", "weights"))) + self.read_ahead + self.history

    @property
    def scratch(self) -> int:
        """Bytes of what layers hold for themselves and do not share."""
        return self.total("scratch") - self.kept

    @property
    def planned_memory(self) -> int:
        """All bytes that the net takes where blobs share memory, as in the tools."""
        return self.shared + self.scratch + self.total("weights") + self.read_ahead + self.history


def read(
    model: str | os.PathLike[str], phase: str = "", level: int = 0, stage: str = "", inputs: str = ""
) -> Definition:
    """Read a net and give it inputs of known shapes.

    model: its prototxt. phase: TRAIN (the default) or TEST. level, stage (a comma list): the rest of its
    state. inputs: shapes of inputs whose data is not at hand, such as "data:64,3,227,227,label:64"; labels
    may be left out.
    """
    check_gt(len(os.fspath(model)), 0, "FLAGS_model.size() > 0", "Need a model definition to summarize.")
    if phase not in PHASES:
        fatal('phase must be "TRAIN" or "TEST"')
    param = upgrade.read_net_text(model)
    param.state.phase = PHASES[phase]
    param.state.level = level
    param.state.stage.extend(filter(None, stage.split(",")))
    param = graph.filter_net(param)
    known = net_inputs.with_inputs(param, net_inputs.parse_shapes(inputs))
    return Definition(known, net_inputs.batches_ahead(param))


def summarize(definition: Definition, batch: int = 0) -> Summary:
    """Describe a net that `read` returned. batch: items of a batch instead of those that it has."""
    check_ge(batch, 0, "FLAGS_batch >= 0", "A batch cannot have a negative size.")
    param = net_inputs.with_batch(definition.net, batch) if batch else definition.net
    split = graph.insert_splits(param)
    for layer in split.layer:
        if layer.type == "HDF5Output":
            layer.type = "Silence"  # to look at a net must not empty the file that it writes
            layer.ClearField("hdf5_output_param")
    wiring = wire(split, Context(param.state.phase, fill=False))
    phase = param.state.phase
    learns = phase == TRAIN and any(wiring.layer_needs_backward)
    plan = planning.plan_memory(wiring, phase, planning.fuse(wiring, phase, plan=True))
    return Summary(
        name=param.name,
        phase=phase,
        batch=net_inputs.batch_size(param),
        learns=learns,
        rows=_Rows(wiring, {layer.name for layer in param.layer}, learns).rows,
        read_ahead=_read_ahead(wiring, definition.ahead),
        shared=plan.bytes + plan.fixed_bytes,
        kept=sum(blob.count * blob.dtype.itemsize for layer in wiring.layers for blob in layer.kept()),
    )


def largest_batch(definition: Definition, memory: int, planned: bool = False) -> int | None:
    """Return the largest batch with which a net fits into `memory` bytes; 0 if none does.

    None where that makes no sense: without inputs, or where the net does not build with other batches. planned:
    whether blobs share memory.
    """
    # Batches that fill cache lines: places are exact multiples then.
    batches = 16, 32
    try:
        few, many = (summarize(definition, batch) for batch in batches)
    except FatalError:
        return None
    first, second = ((net.planned_memory if planned else net.memory) for net in (few, many))
    item = (second - first) // (batches[1] - batches[0])
    if not few.batch or item <= 0:
        return None
    by_memory = (memory - (first - batches[0] * item)) // item
    largest_blob = max(prod(shape) for row in few.rows for shape in row.tops) // batches[0]
    return max(0, min(by_memory, INT_MAX // largest_blob))


def _read_ahead(wiring, ahead):
    return sum(
        ahead.get(layer.name, 0) * sum(wiring.blobs[i].count for i in tops) * FLOAT
        for layer, tops in zip(wiring.layers, wiring.top_ids, strict=True)
    )


class _Rows:
    """Makes the rows. Splits that a net inserts have none: what they need counts with the blob's producer."""

    def __init__(self, wiring: Wiring, names: set[str], learns: bool):
        self.wiring = wiring
        self.learns = learns
        self.producers: dict[int, Row] = {}
        self.with_diff = {
            blob
            for needs, bottoms, wanted in zip(
                wiring.layer_needs_backward, wiring.bottom_ids, wiring.bottom_needs_backward, strict=True
            )
            if needs and learns
            for blob, want in zip(bottoms, wanted, strict=True)
            if want
        }
        self.rows: list[Row] = []
        for index, layer in enumerate(wiring.layers):
            bottoms, tops = wiring.bottom_ids[index], wiring.top_ids[index]
            if layer.name in names:
                row = self._row(layer, bottoms, tops)
                self._count_parameters(row, layer, wiring.param_ids[index])
                self.rows.append(row)
            else:
                row = self.producers[bottoms[0]]
            self._count_tops(row, bottoms, tops)

    def _row(self, layer: Layer, bottoms: Sequence[int], tops: Sequence[int]) -> Row:
        blobs = self.wiring.blobs
        below, above = [blobs[i] for i in bottoms], [blobs[i] for i in tops]
        row = Row(layer.name, layer.type, tuple(blob.shape for blob in above))
        row.in_place = bool(tops) and tops[0] in bottoms
        if layer.type in WINDOWED:
            window = layer.window
            row.kernel = below[0].shape[2:] if window.kernel is None else window.kernel
            row.stride, row.pad = window.stride, window.pad
            row.group = layer.param.convolution_param.group
        if layer.type in MULTIPLY_ADDS:
            row.multiply_adds = MULTIPLY_ADDS[layer.type](layer, below, above)
        row.scratch = own_memory(layer, [*below, *above]) + layer.kept_bytes()
        return row

    def _count_tops(self, row, bottoms, tops):
        blobs = self.wiring.blobs
        below = [blobs[i] for i in bottoms]
        for i in tops:
            if i in self.producers:  # in place
                continue
            self.producers[i] = row
            if not any(blobs[i].shares_data_with(blob) for blob in below):
                row.data += blobs[i].count * FLOAT
            if i in self.with_diff and not any(blobs[i].shares_diff_with(blob) for blob in below):
                row.diffs += blobs[i].count * FLOAT

    def _count_parameters(self, row, layer, uses):
        params = [self.wiring.params[use] for use in uses]
        owned = [layer.blobs[param.index].count for param in params if param.owner < 0]
        if layer.type == "BatchNorm":
            row.statistics = sum(owned)
        else:
            row.parameters = sum(owned)
        row.weights = sum(owned) * FLOAT * (2 if self.learns else 1)


def own_memory(layer: Layer, known: Sequence[Blob]) -> int:
    """Return the bytes of the arrays and blobs that a layer holds beside its parameters, bottoms and tops."""
    sizes: dict[int, int] = {}
    values = [value for name, value in vars(layer).items() if name != "blobs"]
    while values:
        value = values.pop()
        if isinstance(value, (list, tuple)):
            values += value
        elif isinstance(value, Blob) and not any(value.shares_data_with(blob) for blob in known):
            sizes[id(value)] = value.count * value.dtype.itemsize
        elif isinstance(value, np.ndarray):
            while isinstance(value.base, np.ndarray):
                value = value.base
            sizes[id(value)] = value.nbytes
    return sum(sizes.values())


def _convolution(layer: Layer, bottoms: Sequence[Blob], tops: Sequence[Blob]) -> int:
    """Every output sums over its filter: (channels / group) x kernel."""
    return sum(top.count for top in tops) * prod(layer.blobs[0].shape[1:])


def _deconvolution(layer: Layer, bottoms: Sequence[Blob], tops: Sequence[Blob]) -> int:
    """Every input is spread by its filter: (outputs / group) x kernel."""
    return sum(bottom.count for bottom in bottoms) * prod(layer.blobs[0].shape[1:])


def _inner_product(layer: Layer, bottoms: Sequence[Blob], tops: Sequence[Blob]) -> int:
    """Every row of the bottom meets all weights."""
    return tops[0].count // layer.param.inner_product_param.num_output * layer.blobs[0].count


def _recurrent(layer: Layer, bottoms: Sequence[Blob], tops: Sequence[Blob]) -> int:
    """Every step of every stream meets all matrices, and each stream once that of a static input."""
    steps, streams = bottoms[0].shape[:2]
    matrices = [blob.count for blob in layer.blobs if len(blob.shape) == 2]
    states = {"RNN": 1, "LSTM": 2}[layer.type] if layer.param.recurrent_param.expose_hidden else 0
    static = matrices.pop(1) if len(bottoms) - states > 2 else 0
    return streams * (steps * sum(matrices) + static)


#: Multiply-adds of a forward pass by the types that have any.
MULTIPLY_ADDS: dict[str, Callable[[Layer, Sequence[Blob], Sequence[Blob]], int]] = {
    "Convolution": _convolution,
    "Deconvolution": _deconvolution,
    "InnerProduct": _inner_product,
    "LSTM": _recurrent,
    "RNN": _recurrent,
}
