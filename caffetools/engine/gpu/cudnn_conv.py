"""Convolution by cuDNN, with the methods of `conv.ConvPlan`; our own kernels where it has no algorithm."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, cached_property, partial
from math import prod
from typing import NamedTuple

import numpy as np
from numba import cuda

from caffetools.engine.gpu import precision
from caffetools.engine.gpu.cudnn import WORKSPACES, Graph, Tensor, Unsupported
from caffetools.engine.gpu.device import current
from caffetools.engine.gpu.launch import cuda_kernel, launch
from caffetools.engine.gpu.memory import address
from caffetools.engine.gpu.own_conv import OwnConvPlan, finish_in_place
from caffetools.engine.gpu.precision import wide_bfloat16
from caffetools.engine.out_of_memory import OutOfMemory
from caffetools.engine.precisions import BFLOAT16, FLOAT16, FLOAT32
from caffetools.glog import info

#: Where the result of a pass begins in the workspace: at a multiple of so many bytes, behind the algorithm's scratch.
ALIGNMENT = 256

_said: set[str] = set()


class CudnnPlan:
    """A convolution of given shapes, see `OwnConvPlan`."""

    def __init__(
        self,
        x_shape: Sequence[int],
        w_shape: Sequence[int],
        stride: Sequence[int],
        pad: Sequence[int],
        dilation: Sequence[int],
        group: int = 1,
        dtype=np.float32,
    ):
        self._all = x_shape, w_shape, stride, pad, dilation, group, dtype
        counts = [
            (size + 2 * p - d * (k - 1) - 1) // s + 1
            for size, k, s, p, d in zip(x_shape[2:], w_shape[2:], stride, pad, dilation, strict=True)
        ]
        self._x, self._w = tuple(x_shape), tuple(w_shape)
        self._y = (x_shape[0], w_shape[0], *counts)
        self._settings = _Settings(tuple(pad), tuple(stride), tuple(dilation))
        self._x_plane, self._y_plane = prod(x_shape[2:]), prod(counts)
        self._finished: dict[str | None, _Pass | None] = {}
        # What a net that only tests needs; the gradients' graphs are built when they are first asked for.
        _ = self._forward

    def forward(self, x, w, bias, y, residual=None, slope: float = 1.0) -> None:
        """Compute y; bias: (outputs,) or None. residual, slope: what else is done to the outputs, see `finish`."""
        finished = None if bias is None else self._forward_finished(residual is not None, slope)
        if finished is not None:
            finished.run(x, w, bias, *(() if residual is None else (residual,)), y)
        elif self._forward is not None:
            self._forward.run(x, w, y)
            finish_in_place(y, bias, self._y_plane, residual, slope)
        else:
            self._own.forward(x, w, bias, y, residual, slope)

    def backward_data(self, dy, w, dx, bias=None) -> None:
        """Compute dx, which is overwritten; bias: (channels,), which a transposed convolution adds, or None."""
        if self._backward_data is not None:
            self._backward_data.run(dy, w, dx)
            finish_in_place(dx, bias, self._x_plane)
        else:
            self._own.backward_data(dy, w, dx, bias)

    def backward_weights(self, x, dy, dw) -> None:
        """Add the weight gradient to dw."""
        if self._backward_weights is not None:
            self._backward_weights.run(x, dy, dw)
        else:
            self._own.backward_weights(x, dy, dw)

    @cached_property
    def _own(self):
        return OwnConvPlan(*self._all)

    @cached_property
    def _forward(self):
        return self._pass("forward", ("x", self._x), ("w", self._w), ("y", self._y))

    def _forward_finished(self, adds, slope):
        """Return what computes the outputs and finishes them at once, None where cuDNN does not do that."""
        name = _FINISHED.get((adds, slope))
        if name not in self._finished:
            self._finished[name] = self._make_finished(name, adds)
        return self._finished[name]

    def _make_finished(self, name, adds):
        # In half precision the bias is added in float32.
        if name is None or self._forward is None or precision.is_half(current(), np.float32):
            return None
        bias = (1, self._y[1], *(1,) * (len(self._y) - 2))
        inputs = [("x", self._x), ("w", self._w), ("bias", bias), ("residual", self._y)]
        try:
            return _Pass(name, self._settings, inputs[: 3 + adds], ("y", self._y), FLOAT32)
        except (Unsupported, OutOfMemory):
            return None

    @cached_property
    def _backward_data(self):
        return self._pass("data gradient", ("dy", self._y), ("w", self._w), ("dx", self._x))

    @cached_property
    def _backward_weights(self):
        return self._pass("weight gradient", ("x", self._x), ("dy", self._y), ("dw", self._w), adds=True)

    def _pass(self, name, left, right, output, adds=False):
        """Return what computes a pass, None where cuDNN cannot."""
        results = dict.fromkeys((FLOAT32, current().precision))  # the preferred type first
        for result in results:
            try:
                return _Pass(name, self._settings, (left, right), output, result, adds)
            except (Unsupported, OutOfMemory) as error:
                reason = str(error).partition("\n")[0]
        _say_once(
            f"cuDNN does not compute the {name} of a convolution here: kernels of our own do ({reason})"
        )
        return None


class _Settings(NamedTuple):
    """Of a convolution, a number for each spatial axis."""

    padding: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]

    def lists(self) -> dict[str, list[int]]:
        """Return them as the package takes them."""
        return {name: list(sizes) for name, sizes in self._asdict().items()}


#: Passes with a bias, by whether another blob is added and the slope of the ReLU.
_FINISHED = {
    (False, 1): "forward with bias",
    (False, 0): "forward with bias and ReLU",
    (True, 0): "forward with sum, bias and ReLU",
}
#: cuDNN's ReLU makes zeros of NaNs, which would hide that a training fails, unless an algorithm promises not to.
_STRICT = {_FINISHED[False, 0], _FINISHED[True, 0]}
#: What the passes add to a graph.
_BUILDS = {
    "forward": lambda settings, graph, x, w: graph.conv_fprop(x, w, **settings),
    "forward with bias": lambda settings, graph, x, w, bias: graph.bias(
        graph.conv_fprop(x, w, **settings), bias
    ),
    "forward with bias and ReLU": lambda settings, graph, x, w, bias: graph.relu(
        graph.bias(graph.conv_fprop(x, w, **settings), bias)
    ),
    "forward with sum, bias and ReLU": lambda settings, graph, x, w, bias, residual: graph.relu(
        graph.bias(graph.add(graph.conv_fprop(x, w, **settings), residual), bias)
    ),
    "data gradient": lambda settings, graph, dy, w: graph.conv_dgrad(dy, w, **settings),
    "weight gradient": lambda settings, graph, x, dy: graph.conv_wgrad(x, dy, **settings),
}


@cache
def _graph(
    name: str, settings: _Settings, inputs: tuple[Tensor, ...], output: Tensor, tf32: bool, most: int
) -> Graph:
    """Return the graph of a pass; layers of one shape share it, because choosing an algorithm takes its time."""
    build = partial(_BUILDS[name], settings.lists())
    return Graph(name, build, inputs, output, most, name in _STRICT)


class _Pass:
    """One operation of cuDNN between float32 arrays.

    result: the type in which cuDNN writes the result. adds: whether it is added to what is there.
    """

    def __init__(self, name: str, settings: _Settings, inputs, output, result: str, adds: bool = False):
        engine = current()
        self._half = precision.is_half(engine, np.float32)
        kind = engine.precision if self._half else FLOAT32
        tensors = tuple(Tensor(name, shape, kind) for name, shape in inputs)
        self._counts = [prod(shape) for _, shape in inputs]
        self._wide = result == FLOAT32
        self._type = np.dtype(np.float32) if self._wide else precision.HALF_TYPES[result]
        self._adds = adds
        # What is added, or is still to be widened, lies behind the scratch first.
        self._aside = adds or not self._wide
        behind = prod(output[1]) * self._type.itemsize if self._aside else 0
        self._graph, self._start = self._fitting(
            engine,
            lambda most: _graph(name, settings, tensors, Tensor(*output, result), engine.tf32, most),
            behind,
        )

    @staticmethod
    def _fitting(engine, graph_within, behind):
        """Return a graph for whose scratch, and `behind` bytes, there is room; and where these bytes start."""
        for most in WORKSPACES:
            graph = graph_within(most)
            start = -(-graph.workspace // ALIGNMENT) * ALIGNMENT
            try:
                engine.workspace.reserve(start + behind, np.uint8)
            except OutOfMemory as error:
                reason = error
            else:
                return graph, start
        raise reason

    def run(self, *arrays) -> None:
        """Compute the last array from the others."""
        engine = current()
        *operands, target = arrays
        if self._half:
            parts = [(array, 0, count) for array, count in zip(operands, self._counts, strict=True)]
            operands = precision.halved(engine, *parts)
        workspace = address(engine.workspace.array(np.uint8))
        result = workspace + self._start if self._aside else address(target)
        self._graph.run([*map(address, operands), result], workspace)
        if not self._aside:
            return
        values, first = engine.workspace.array(self._type), self._start // self._type.itemsize
        if not self._adds:
            precision.widen(engine, values, first, target)
        else:
            launch(_ADDING[self._type], target.size, values, first, target)


@cuda_kernel
def add_from(values, start, y):
    """y_i += values_(start + i)"""
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        y[i] += values[start + i]


@cuda_kernel
def add_bfloat16(values, start, y):
    """y_i += values_(start + i), of which there are the bits."""
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        y[i] += wide_bfloat16(values[start + i])


_ADDING = {
    np.dtype(np.float32): add_from,
    precision.HALF_TYPES[FLOAT16]: add_from,
    precision.HALF_TYPES[BFLOAT16]: add_bfloat16,
}


def _say_once(text):
    if text not in _said:
        _said.add(text)
        info(text)
