"""The host's vectors, and how kernels made of them are emitted, compiled and called.

numba cannot be told to keep a tile of numbers in vector registers, so the innermost kernels are written as
LLVM code, for any element type and vector width. Each is compiled on first use, kept on disk, and called by
its address: the loops around it are compiled once, whatever the kernels are.
"""

from __future__ import annotations

import os
from functools import cache

import llvmlite.binding
import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.extending import intrinsic, register_model

from caffetools.engine.cpu import jit  # noqa: F401  (it decides where compiled code is kept)

#: Name of a vector unit: bytes of a vector, most rows of a tile two vectors wide, whether a masked load is
#: one instruction.
WIDTHS = {"avx512": (64, 13, True), "avx2": (32, 6, True), "neon": (16, 12, False), "sse": (16, 6, False)}
#: Most lanes of a vector.
MOST_LANES = 16

int32, int64 = ir.IntType(32), ir.IntType(64)


@cache
def width_name() -> str:
    """Return the host's entry of `WIDTHS`; the environment variable CAFFETOOLS_SIMD overrides it."""
    forced = os.environ.get("CAFFETOOLS_SIMD")
    if forced:
        if forced not in WIDTHS:
            raise ValueError(f"CAFFETOOLS_SIMD={forced}: use one of {', '.join(WIDTHS)}")
        return forced
    features = llvmlite.binding.get_host_cpu_features()
    if features.get("avx512f"):
        return "avx512"
    if features.get("avx2") and features.get("fma"):
        return "avx2"
    return "neon" if "aarch64" in llvmlite.binding.get_process_triple() else "sse"


def lanes_of(dtype) -> int:
    """Return how many elements of this type a vector holds."""
    return WIDTHS[width_name()][0] // dtype.itemsize


def max_rows(vectors: int = 2) -> int:
    """Return how many rows of a tile fit the registers."""
    return WIDTHS[width_name()][1] * 2 // max(2, vectors)


def masked_loads() -> bool:
    """Say whether a masked load costs no more than a plain one; if not, kernels read beyond edges."""
    return WIDTHS[width_name()][2]


class KernelType(types.Opaque):
    """The numba type that stands for one emitted kernel; its name tells all kernels apart.

    dtype: numba type of the elements. lanes: elements of a vector. Subclasses add what else shapes the code.
    """

    def __init__(self, dtype, lanes: int, description: str):
        self.dtype, self.lanes = dtype, lanes
        super().__init__(f"{type(self).__name__}({dtype}x{lanes}{description})")


class KernelModel(models.OpaqueModel):
    """A kernel's type has no value."""


register_model(KernelType)(KernelModel)


class Emitter:
    """Writes vector code with an LLVM builder. All indices count elements."""

    def __init__(self, builder, kind: KernelType, context):
        self.builder, self.kind = builder, kind
        self.element = context.get_data_type(kind.dtype)
        self.suffix = {"float": "f32", "double": "f64"}[str(self.element)]
        self.align = context.get_abi_sizeof(self.element)
        self.vector = ir.VectorType(self.element, kind.lanes)
        self.mask = ir.VectorType(ir.IntType(1), kind.lanes)
        self.zero = ir.Constant(self.vector, [0.0] * kind.lanes)

    def call(self, name, result, *arguments):
        function_type = ir.FunctionType(result, [argument.type for argument in arguments])
        function = cgutils.get_or_insert_function(self.builder.module, function_type, name)
        return self.builder.call(function, arguments)

    def at(self, pointer, index):
        return self.builder.gep(pointer, [number(index) if isinstance(index, int) else index])

    def splat(self, scalar, lanes_type):
        """Return a vector with `scalar` in every lane."""
        undefined = ir.Constant(lanes_type, ir.Undefined)
        single = self.builder.insert_element(undefined, scalar, ir.Constant(int32, 0))
        zeros = ir.Constant(ir.VectorType(int32, self.kind.lanes), [0] * self.kind.lanes)
        return self.builder.shuffle_vector(single, undefined, zeros)

    def vector_at(self, pointer, index):
        return self.builder.bitcast(self.at(pointer, index), self.vector.as_pointer())

    def load(self, pointer, index):
        return self.builder.load(self.vector_at(pointer, index), align=self.align)

    def prefetch(self, pointer, to_write):
        """Fetch a line; the pointer need not be valid."""
        keep, data = 3, 1  # LLVM's numbers for "in all caches" and "not code"
        hints = [ir.Constant(int32, hint) for hint in (int(to_write), keep, data)]
        self.call("llvm.prefetch.p0", ir.VoidType(), self.builder.bitcast(pointer, cgutils.voidptr_t), *hints)

    def masked_load(self, pointer, index, mask, otherwise):
        """Load the lanes of the mask without touching the others, which come from `otherwise`."""
        name = f"llvm.masked.load.v{self.kind.lanes}{self.suffix}.p0"
        address, align = self.vector_at(pointer, index), ir.Constant(int32, self.align)
        return self.call(name, self.vector, address, align, mask, otherwise)

    def store(self, value, pointer, index, mask=None):
        address = self.vector_at(pointer, index)
        if mask is None:
            self.builder.store(value, address, align=self.align)
        else:
            name = f"llvm.masked.store.v{self.kind.lanes}{self.suffix}.p0"
            self.call(name, ir.VoidType(), value, address, ir.Constant(int32, self.align), mask)

    def multiply_add(self, a, b, c):
        """Return a b + c of vectors, rounded once where the machine has an instruction for it."""
        return self.call(f"llvm.fmuladd.v{self.kind.lanes}{self.suffix}", self.vector, a, b, c)

    def sum_of_lanes(self, vector):
        """Return the sum of a vector's lanes: the upper half is added to the lower one until one is left."""
        lanes = self.kind.lanes
        while lanes > 1:
            lanes //= 2
            halves = (list(range(first, first + lanes)) for first in (0, lanes))
            places = (ir.Constant(ir.VectorType(int32, lanes), half) for half in halves)
            vector = self.builder.fadd(*(self.builder.shuffle_vector(vector, vector, place) for place in places))
        return self.builder.extract_element(vector, number(0))

    def lanes_below(self, bound):
        """Return the mask of the lanes whose index is below `bound` (an int64)."""
        lanes_type = ir.VectorType(int32, self.kind.lanes)
        index = ir.Constant(lanes_type, list(range(self.kind.lanes)))
        return self.builder.icmp_signed("<", index, self.splat(self.builder.trunc(bound, int32), lanes_type))


def number(value: int) -> ir.Constant:
    """Return an int64 constant."""
    return ir.Constant(int64, value)


@intrinsic
def call_kernel(typing_context, address, operands, result):
    """Call the kernel at `address` from a numba kernel, with two tuples of integers, scalars and pointers."""
    kinds = [
        types.Tuple([types.int64 if isinstance(t, types.Integer) else t for t in k])
        for k in (operands, result)
    ]

    def emit(context, builder, signature, values):
        nothing = ir.Constant(cgutils.voidptr_t, None)
        function_type = ir.FunctionType(ir.VoidType(), [nothing.type, values[1].type, values[2].type])
        builder.call(builder.inttoptr(values[0], function_type.as_pointer()), [nothing, *values[1:]])
        return context.get_dummy_value()

    return types.void(types.int64, *kinds), emit


@intrinsic
def at(typing_context, array, index):
    """Return the address of element `index` of a C-contiguous array, counted in memory order."""
    if array.layout != "C":
        raise numba.TypingError("the engine computes on C-contiguous arrays only")

    def emit(context, builder, signature, values):
        data = context.make_array(signature.args[0])(context, builder, values[0]).data
        return builder.gep(data, [values[1]])

    return types.CPointer(array.dtype)(array, types.int64), emit
