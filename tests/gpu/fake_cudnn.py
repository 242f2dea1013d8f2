"""A stand-in for the package `cudnn` in the simulator, where the addresses of device memory are the host's.

It takes the calls that the package takes (test_cudnn_package.py holds the same calls against the real one) and computes
the convolutions by sums over taps.
"""

from __future__ import annotations

import ctypes
from enum import Enum
from itertools import product
from types import ModuleType

import numpy as np

data_type = Enum("data_type", "FLOAT HALF BFLOAT16")
heur_mode = Enum("heur_mode", "A FALLBACK")
numerical_note = Enum(
    "numerical_note",
    "TENSOR_CORE DOWN_CONVERT_INPUTS REDUCED_PRECISION_REDUCTION NONDETERMINISTIC STRICT_NAN_PROP",
)
#: NumPy has no bfloat16: its bits are the upper ones of float32.
DTYPES = {data_type.FLOAT: np.float32, data_type.HALF: np.float16, data_type.BFLOAT16: np.uint16}
#: The steps to a graph that runs, in their order.
STEPS = [
    "validate",
    "build_operation_graph",
    "create_execution_plans",
    "deselect_numeric_notes",
    "deselect_workspace_greater_than",
    "check_support",
    "build_plans",
]


class cudnnGraphNotSupportedError(Exception):  # noqa: N801, N818 - the package's name
    pass


class Tensor:
    def __init__(self, **fields):
        self.__dict__.update(fields)

    def set_output(self, value):
        self.output = value

    def set_data_type(self, value):
        self.data_type = value

    def set_uid(self, value):
        self.uid = value

    def set_dim(self, value):
        self.dim = value

    def set_stride(self, value):
        self.stride = value


class Fake(ModuleType):
    """The module; refuses: names of operations without an algorithm; graphs: those that were made."""

    def __init__(self, refuses=(), workspaces=(1000,)):
        super().__init__("cudnn")
        self.refuses, self.graphs, self.stream = refuses, [], None
        self.workspaces = workspaces  # bytes of scratch of the plans, the best first; no multiple of anything
        self.data_type, self.heur_mode, self.numerical_note = data_type, heur_mode, numerical_note
        self.cudnnGraphNotSupportedError = cudnnGraphNotSupportedError

    def create_handle(self):
        return "handle"

    def set_stream(self, handle, stream):
        assert handle == "handle"
        self.stream = stream

    def pygraph(self, *, name, io_data_type, intermediate_data_type, compute_data_type, handle):
        assert (handle, intermediate_data_type, compute_data_type) == (
            "handle",
            data_type.FLOAT,
            data_type.FLOAT,
        )
        self.graphs.append(Graph(self, name))
        return self.graphs[-1]


class Graph:
    def __init__(self, module, name):
        self.module, self.name = module, name
        self.runs = 0
        self.operations, self.inputs, self.steps, self.notes, self.wanted = [], [], [], [], []

    def tensor(self, *, name, dim, stride, data_type, uid):
        self.inputs.append(Tensor(name=name, dim=dim, stride=stride, data_type=data_type, uid=uid))
        return self.inputs[-1]

    def _operation(self, name, *args, **settings):
        self.operations.append((name, settings))
        self.result = Tensor(data_type=None)
        return self.result

    def conv_fprop(self, image, weight, *, padding, stride, dilation):
        return self._operation("conv_fprop", padding=padding, stride=stride, dilation=dilation)

    def conv_dgrad(self, loss, filter, *, padding, stride, dilation):
        return self._operation("conv_dgrad", padding=padding, stride=stride, dilation=dilation)

    def conv_wgrad(self, image, loss, *, padding, stride, dilation):
        return self._operation("conv_wgrad", padding=padding, stride=stride, dilation=dilation)

    def bias(self, input, bias):
        return self._operation("bias")

    def add(self, a, b):
        return self._operation("add")

    def relu(self, input):
        return self._operation("relu")

    def validate(self):
        self.steps.append("validate")

    def build_operation_graph(self):
        self.steps.append("build_operation_graph")

    def create_execution_plans(self, modes):
        assert modes == [heur_mode.A, heur_mode.FALLBACK]
        self.steps.append("create_execution_plans")

    def deselect_numeric_notes(self, notes):
        self.notes = notes
        self.steps.append("deselect_numeric_notes")

    def select_numeric_notes(self, notes):
        assert self.steps[-1] == "deselect_numeric_notes"
        self.wanted = notes

    def deselect_workspace_greater_than(self, size):
        self.most = size
        self.steps.append("deselect_workspace_greater_than")

    def check_support(self):
        self.steps.append("check_support")
        types = self.inputs[0].data_type.name, self.result.data_type.name
        for name, _ in self.operations:
            if name in self.module.refuses or (name, *types) in self.module.refuses:
                raise cudnnGraphNotSupportedError(f"no engine for {name}\nand more")

        fitting = [size for size in self.module.workspaces if size <= self.most]
        if not fitting:
            raise cudnnGraphNotSupportedError(f"no plan within {self.most} bytes")
        self.workspace = fitting[0]

    def build_plans(self):
        self.steps.append("build_plans")

    def get_workspace_size(self):
        return self.workspace

    def execute(self, variant_pack, workspace, handle):
        assert handle == "handle"
        assert self.steps == STEPS
        self.runs += 1
        ctypes.memset(workspace, 255, self.workspace)  # scratch is the algorithm's own: NaN for everybody else
        values = [_numbers(_array(variant_pack[tensor.uid], tensor)) for tensor in self.inputs]
        target = _array(variant_pack[self.result.uid], self.result)
        (name, settings), *more = self.operations
        result = OPERATIONS[name](*values[:2], target.shape, **settings)
        more = [name for name, _ in more]
        if "bias" in more:
            result += values[2]
        if "add" in more:
            result += values[3]
        if "relu" in more:
            assert self.wanted == [numerical_note.STRICT_NAN_PROP]
            result = np.maximum(result, 0)
        target[...] = _bits(result) if target.dtype == np.uint16 else result


def _array(address, tensor):
    dtype = np.dtype(DTYPES[tensor.data_type])
    size = int(np.prod(tensor.dim)) * dtype.itemsize
    buffer = (ctypes.c_char * size).from_address(address)
    return np.ndarray(tensor.dim, dtype, buffer, strides=[step * dtype.itemsize for step in tensor.stride])


def _numbers(array):
    if array.dtype == np.uint16:
        array = (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float64)


def _bits(values):
    return ((values.astype(np.float32).view(np.uint32) + 0x8000) >> 16).astype(np.uint16)


def _taps(x_shape, kernel, padding, stride, dilation, counts):
    """Yield each tap and the elements of the padded x under it."""
    for tap in product(*map(range, kernel)):
        yield (
            tap,
            tuple(
                slice(a * d, a * d + (n - 1) * s + 1, s)
                for a, d, n, s in zip(tap, dilation, counts, stride, strict=True)
            ),
        )


def _padded(shape, padding):
    return np.zeros((*shape[:2], *(size + 2 * p for size, p in zip(shape[2:], padding, strict=True))))


def _inside(padding, shape):
    return (..., *(slice(p, p + size) for p, size in zip(padding, shape[2:], strict=True)))


def _groups(channels, group_channels):
    group = channels // group_channels
    return group, group_channels


def _fprop(x, w, shape, padding, stride, dilation):
    padded = _padded(x.shape, padding)
    padded[_inside(padding, x.shape)] = x
    y = np.zeros(shape)
    group, depth = _groups(x.shape[1], w.shape[1])
    rows = shape[1] // group
    for tap, window in _taps(x.shape, w.shape[2:], padding, stride, dilation, shape[2:]):
        for g in range(group):
            under = padded[(slice(None), slice(g * depth, (g + 1) * depth), *window)]
            part = w[(slice(g * rows, (g + 1) * rows), slice(None), *tap)]
            y[:, g * rows : (g + 1) * rows] += np.einsum("nc...,mc->nm...", under, part)
    return y


def _dgrad(dy, w, shape, padding, stride, dilation):
    padded = _padded(shape, padding)
    group, depth = _groups(shape[1], w.shape[1])
    rows = w.shape[0] // group
    for tap, window in _taps(shape, w.shape[2:], padding, stride, dilation, dy.shape[2:]):
        for g in range(group):
            part = w[(slice(g * rows, (g + 1) * rows), slice(None), *tap)]
            under = np.einsum("nm...,mc->nc...", dy[:, g * rows : (g + 1) * rows], part)
            padded[(slice(None), slice(g * depth, (g + 1) * depth), *window)] += under
    return padded[_inside(padding, shape)]


def _wgrad(x, dy, shape, padding, stride, dilation):
    padded = _padded(x.shape, padding)
    padded[_inside(padding, x.shape)] = x
    dw = np.zeros(shape)
    group, depth = _groups(x.shape[1], shape[1])
    rows = shape[0] // group
    for tap, window in _taps(x.shape, shape[2:], padding, stride, dilation, dy.shape[2:]):
        for g in range(group):
            under = padded[(slice(None), slice(g * depth, (g + 1) * depth), *window)]
            loss = dy[:, g * rows : (g + 1) * rows]
            flat = (array.reshape(*array.shape[:2], -1) for array in (loss, under))
            part = np.einsum("nmi,nci->mc", *flat)
            dw[(slice(g * rows, (g + 1) * rows), slice(None), *tap)] = part
    return dw


OPERATIONS = {"conv_fprop": _fprop, "conv_dgrad": _dgrad, "conv_wgrad": _wgrad}
