"""An ONNX graph in the making, and what the writer of a layer sees of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import NoReturn

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from caffetools.blob import Blob
from caffetools.glog import fatal
from caffetools.layer import Layer

#: The version of ONNX's operators that are used: 17 was released in 2022 and every current runtime reads it.
OPSET = 17
#: The version of the file format that belongs to it.
IR_VERSION = 8


class Graph:
    """Nodes and constants in the order in which they were asked for; values are known by their names."""

    def __init__(self):
        self.nodes: list = []
        self.initializers: list = []
        self.names: set[str] = set()
        self.weights: dict[tuple, str] = {}
        self.open_axes: dict[int, dict[int, str]] = {}  # by the id of a blob

    def name(self, wanted: str) -> str:
        """Return a name that nobody has: the wanted one, or with a number behind it."""
        result, number = wanted, 1
        while result in self.names:
            number += 1
            result = f"{wanted}_{number}"
        self.names.add(result)
        return result

    def constant(self, name: str, values: np.ndarray) -> str:
        """Store an array and return its name."""
        name = self.name(name)
        self.initializers.append(numpy_helper.from_array(np.array(values, order="C"), name))
        return name

    def node(self, name: str, op: str, inputs: Sequence[str], outputs: int = 1, **attributes) -> list[str]:
        """Append an operation and return the names of its outputs, which are made from `name`."""
        values = [self.name(name) for _ in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), values, name=self.name(f"{name}/{op}"), **attributes))
        return values


@dataclass
class Side:
    """One of the two nets from which a graph is written: they differ in the size of the batch alone."""

    layer: Layer
    bottom: list[Blob]
    top: list[Blob]


@dataclass
class Step:
    """One layer, the values that it takes, and the operations that take its place.

    inputs: the names of its bottoms' values. side: the layer as its net has it. other: the same layer in a net with
    another batch, which tells the sizes that are the batch's; without one all sizes are fixed.
    """

    graph: Graph
    inputs: list[str]
    side: Side
    other: Side | None = None
    constants: dict[tuple, str] = field(default_factory=dict)

    @property
    def layer(self) -> Layer:
        return self.side.layer

    @property
    def x(self) -> str:
        """The first bottom's value."""
        return self.inputs[0]

    def node(self, op: str, *inputs: str, **attributes) -> str:
        """Append an operation with one output."""
        return self.graph.node(self.layer.name, op, inputs, **attributes)[0]

    def nodes(self, op: str, inputs: Sequence[str], outputs: int, **attributes) -> list[str]:
        """Append an operation with several outputs."""
        return self.graph.node(self.layer.name, op, inputs, outputs, **attributes)

    def constant(self, values, dtype=np.float32) -> str:
        """Return the name of a constant; equal ones of a layer are stored once."""
        array = np.asarray(values, dtype)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self.constants:
            self.constants[key] = self.graph.constant(f"{self.layer.name}.constant", array)
        return self.constants[key]

    def weight(self, index: int, shape: Sequence[int] | None = None, transpose: bool = False) -> str:
        """Return the name of a parameter's values; parameters that layers share are stored once."""
        blob = self.layer.blobs[index]
        values = blob.data if shape is None else blob.data.reshape(shape)
        key = (values.__array_interface__["data"][0], values.shape, transpose)
        if key not in self.graph.weights:
            values = values.T if transpose else values
            self.graph.weights[key] = self.graph.constant(f"{self.layer.name}.{index}", values.astype(np.float32))
        return self.graph.weights[key]

    def sizes(self, of: Callable[[Side], Sequence[int]]) -> list[int]:
        """Return what `of` says of the layer, with -1 in the place of the size that changes with the batch.

        Errors: FatalError where more than one changes, since a Reshape infers one size at most.
        """
        sizes = list(of(self.side))
        if self.other is None:
            return sizes
        others = of(self.other)
        free = [i for i, (a, b) in enumerate(zip(sizes, others, strict=True)) if a != b]
        if len(free) > 1:
            fatal(
                f"the shape {tuple(sizes)} changes in {len(free)} places with the batch: export it with "
                f"--batch=N, which fixes the size (layer '{self.layer.name}')"
            )
        for i in free:
            sizes[i] = -1
        return sizes

    def reshape(self, value: str, of: Callable[[Side], Sequence[int]]) -> str:
        """Give a value the shape that `of` says of the layer."""
        return self.node("Reshape", value, self.constant(self.sizes(of), np.int64))

    def like_top(self, value: str, index: int = 0) -> str:
        """Give a value the shape of a top."""
        return self.reshape(value, lambda side: side.top[index].shape)

    def scaled(self, value: str, factor: float) -> str:
        """Multiply a value by a number, unless that is 1."""
        return value if factor == 1 else self.node("Mul", value, self.constant(factor))

    def shifted(self, value: str, summand: float) -> str:
        """Add a number to a value, unless that is 0."""
        return value if summand == 0 else self.node("Add", value, self.constant(summand))

    def to_float(self, value: str) -> str:
        return self.node("Cast", value, to=TensorProto.FLOAT)

    def to_index(self, value: str) -> str:
        """Turn floats that stand for integers, such as labels, into integers."""
        return self.node("Cast", value, to=TensorProto.INT64)

    def sum(self, value: str, axes: Sequence[int], keepdims: bool = True) -> str:
        return self.node("ReduceSum", value, self.constant(list(axes), np.int64), keepdims=int(keepdims))

    def leave_open(self, axis: int, name: str, index: int = 0) -> None:
        """Say that a size of a top is known only when the graph runs."""
        self.graph.open_axes.setdefault(id(self.side.top[index]), {})[axis] = name

    def refuse(self, reason: str) -> NoReturn:
        """Say that this layer cannot be exported, and why."""
        fatal(f"{self.layer.type} cannot be exported to ONNX: {reason} (layer '{self.layer.name}')")


def matrix(rows_before: int) -> Callable[[Side], tuple[int, int]]:
    """Return a shape for `Step.reshape`: bottom 0 as a matrix whose rows are its first `rows_before` axes."""

    def of(side: Side) -> tuple[int, int]:
        shape = side.bottom[0].shape
        return prod(shape[:rows_before]), prod(shape[rows_before:])

    return of
