"""Micro-kernels: small tiles of a matrix product held in vector registers, written as LLVM vector code.

A micro-kernel computes one tile of C = A B, `rows` x (`vectors` * lanes) elements. The accumulators live in registers while
the kernel walks the common axis k; at each step it loads `vectors` vectors of B and multiplies them by `rows` scalars of A,
broadcast one after the other. numba cannot be told to keep such a tile in registers, so the code is emitted here.

Where the operands lie is part of the kernel's type, because address arithmetic decides the speed:

    A  "columns"  a[k * a_step + m]: packed panels, or a transposed matrix as it is
       "rows"     a[a_rows[m] + a_steps[j] + i], k = (j, i): rows of a matrix, or the pixels that a convolution's taps see
    B  "steps"    b[k * b_step + n]: packed panels, or a matrix as it is
       "table"    b[b_steps[k] + pixel(n)]: an image, with one offset for each tap of the filter and pixels that may lie
                  on several rows of it ("spans", see `Tile`)

Kernels are compiled on first use, one for each `Tile`, and kept on disk; others call them by address, so that the loops
around them are compiled once whatever the tiles are. The element type and the vector width are parts of the `Tile` too.
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

#: Vector widths in bytes and the tiles they favour: (bytes, most rows of a tile two vectors wide, masked loads are one instruction).
WIDTHS = {"avx512": (64, 13, True), "avx2": (32, 6, True), "neon": (16, 12, False), "sse": (16, 6, False)}

#: Most lanes of a vector, and most image rows that the pixels of one vector may lie on.
MOST_LANES, LONGEST_SPAN = 16, 3

ADD = 1  #: flag of a micro-kernel: add the tile to C instead of storing it
BIAS = 2  #: flag of a micro-kernel: add bias[m] to row m of the tile

#: Steps of k that one pass of a "rows" kernel makes, so that the row addresses (too many for registers) are fetched less often.
UNROLL = 4

_int64 = ir.IntType(64)
_int32 = ir.IntType(32)


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
    return WIDTHS[width_name()][1] * 2 // vectors


def masked_loads() -> bool:
    """Say whether a masked load costs no more than a plain one; if not, kernels read whole vectors beyond an edge."""
    return WIDTHS[width_name()][2]


class Tile(types.Opaque):
    """The numba type that stands for one micro-kernel.

    dtype: numba type of the elements. rows, vectors: the shape of the tile. a, b: where the operands lie (see above).
    spans: of a "table" operand, on how many rows of the image the pixels of a vector may lie. A vector is described by
    spans + 1 integers (address, bound 1, ..., bound spans): lanes from bound s on are read `s * gap` further.
    The last bound is the number of valid lanes.
    """

    def __init__(self, dtype, lanes: int, rows: int, vectors: int, a: str, b: str, spans: int, masked: bool):
        self.dtype, self.lanes, self.rows, self.vectors = dtype, lanes, rows, vectors
        self.a, self.b, self.spans, self.masked = a, b, spans, masked
        super().__init__(f"Tile({dtype}x{lanes}, {rows}x{vectors}, {a}, {b}, {spans}, {masked})")


@register_model(Tile)
class TileModel(models.OpaqueModel):
    """A tile has no value, only a type."""


class _Emitter:
    """Writes the body of one micro-kernel with an LLVM builder."""

    def __init__(self, builder, tile, context):
        self.builder, self.tile = builder, tile
        self.element = context.get_data_type(tile.dtype)
        self.suffix = {"float": "f32", "double": "f64"}[str(self.element)]
        self.align = context.get_abi_sizeof(self.element)
        self.vector = ir.VectorType(self.element, tile.lanes)
        self.mask = ir.VectorType(ir.IntType(1), tile.lanes)
        self.zero = ir.Constant(self.vector, [0.0] * tile.lanes)
        self.accumulators = [
            [cgutils.alloca_once_value(builder, self.zero) for _ in range(tile.vectors)]
            for _ in range(tile.rows)
        ]

    def call(self, name, result, *arguments):
        function_type = ir.FunctionType(result, [argument.type for argument in arguments])
        return self.builder.call(
            cgutils.get_or_insert_function(self.builder.module, function_type, name), arguments
        )

    def at(self, pointer, index):
        return self.builder.gep(pointer, [index])

    def splat(self, scalar, lanes_type):
        undefined = ir.Constant(lanes_type, ir.Undefined)
        single = self.builder.insert_element(undefined, scalar, ir.Constant(_int32, 0))
        zeros = ir.Constant(ir.VectorType(_int32, self.tile.lanes), [0] * self.tile.lanes)
        return self.builder.shuffle_vector(single, undefined, zeros)

    def vector_at(self, pointer, index):
        return self.builder.bitcast(self.at(pointer, index), self.vector.as_pointer())

    def load(self, pointer, index, mask=None, otherwise=None):
        address = self.vector_at(pointer, index)
        if mask is None:
            return self.builder.load(address, align=self.align)
        if not self.tile.masked:
            value = self.builder.load(address, align=self.align)
            return self.builder.select(mask, value, otherwise)
        name = f"llvm.masked.load.v{self.tile.lanes}{self.suffix}.p0"
        return self.call(name, self.vector, address, ir.Constant(_int32, self.align), mask, otherwise)

    def store(self, value, pointer, index, mask=None):
        address = self.vector_at(pointer, index)
        if mask is None:
            self.builder.store(value, address, align=self.align)
        else:
            name = f"llvm.masked.store.v{self.tile.lanes}{self.suffix}.p0"
            self.call(name, ir.VoidType(), value, address, ir.Constant(_int32, self.align), mask)

    def lanes_below(self, bound):
        """Return the mask of the lanes whose index is below `bound` (any integer)."""
        lanes_type = ir.VectorType(_int32, self.tile.lanes)
        index = ir.Constant(lanes_type, list(range(self.tile.lanes)))
        return self.builder.icmp_signed("<", index, self.splat(self.builder.trunc(bound, _int32), lanes_type))

    def step(self, scalars, vectors):
        """Add the outer product of one step of k to the accumulators; `scalars[m]` is an address."""
        for m, row in enumerate(self.accumulators):
            scalar = self.splat(self.builder.load(scalars[m], align=self.align), self.vector)
            for v, accumulator in enumerate(row):
                total = self.call(
                    f"llvm.fmuladd.v{self.tile.lanes}{self.suffix}",
                    self.vector,
                    scalar,
                    vectors[v],
                    self.builder.load(accumulator),
                )
                self.builder.store(total, accumulator)


def _emit_columns_loop(emitter, args):
    """k runs over columns of A: packed panels, or a matrix that is already transposed."""
    builder, tile = emitter.builder, emitter.tile
    read_b = _table_reader(emitter, args) if tile.b == "table" else _steps_reader(emitter, args)
    with cgutils.for_range(builder, args["inner"], intp=_int64) as loop:
        column = emitter.at(args["a"], builder.mul(loop.index, args["a_step"]))
        vectors = read_b(loop.index)
        emitter.step([emitter.at(column, ir.Constant(_int64, m)) for m in range(tile.rows)], vectors)


def _emit_rows_loop(emitter, args):
    """k = (j, i): the i-th element of each of the tile's rows, moved along by `a_steps[j]`."""
    builder, tile = emitter.builder, emitter.tile
    read_b = _steps_reader(emitter, args)
    rows = [
        emitter.at(args["a"], builder.load(emitter.at(args["a_rows"], ir.Constant(_int64, m))))
        for m in range(tile.rows)
    ]
    unroll = ir.Constant(_int64, UNROLL)
    whole = builder.mul(builder.sdiv(args["inner"], unroll), unroll)
    with cgutils.for_range(builder, args["outer"], intp=_int64) as outer:
        start = builder.load(emitter.at(args["a_steps"], outer.index))
        first = builder.mul(outer.index, args["inner"])
        for begin, end, stride in ((ir.Constant(_int64, 0), whole, UNROLL), (whole, args["inner"], 1)):
            with cgutils.for_range_slice(builder, begin, end, ir.Constant(_int64, stride), intp=_int64) as (
                i,
                _,
            ):
                for u in range(stride):
                    here = builder.add(i, ir.Constant(_int64, u))
                    vectors = read_b(builder.add(first, here))
                    offset = builder.add(start, here)
                    emitter.step([emitter.at(row, offset) for row in rows], vectors)


def _steps_reader(emitter, args):
    """Return the function that loads the vectors of step k when they lie `b_step` elements apart."""
    builder, tile = emitter.builder, emitter.tile
    masks = [None] * tile.vectors
    if tile.masked:
        masks = [
            emitter.lanes_below(builder.sub(args["width"], ir.Constant(_int64, v * tile.lanes)))
            for v in range(tile.vectors)
        ]

    def read(k):
        start = builder.mul(k, args["b_step"])
        return [
            emitter.load(
                args["b"], builder.add(start, ir.Constant(_int64, v * tile.lanes)), masks[v], emitter.zero
            )
            for v in range(tile.vectors)
        ]

    return read


def _table_reader(emitter, args):
    """Return the function that loads the vectors of tap k: lanes of several image rows are merged by masks."""
    builder, tile = emitter.builder, emitter.tile
    pixels, masks = [], []
    for v in range(tile.vectors):
        entry = [
            builder.load(emitter.at(args["pixels"], ir.Constant(_int64, v * (tile.spans + 1) + s)))
            for s in range(tile.spans + 1)
        ]
        pixels.append(emitter.at(args["b"], entry[0]))
        below = [emitter.lanes_below(bound) for bound in entry[1:]]
        masks.append(
            below[:1] + [builder.and_(below[s], builder.not_(below[s - 1])) for s in range(1, tile.spans)]
        )

    def read(k):
        tap = builder.load(emitter.at(args["b_steps"], k))
        vectors = []
        for v in range(tile.vectors):
            value, place = emitter.zero, tap
            for s in range(tile.spans):
                value = emitter.load(pixels[v], place, masks[v][s], value)
                place = builder.add(place, args["gap"])
            vectors.append(value)
        return vectors

    return read


def _emit_write_out(emitter, args):
    """C = alpha * tile, plus the bias of each row, plus what C held; the lanes beyond `width` are left alone."""
    builder, tile = emitter.builder, emitter.tile
    alpha = emitter.splat(args["alpha"], emitter.vector)

    def flag(bit):
        return builder.icmp_signed(
            "!=", builder.and_(args["flags"], ir.Constant(_int64, bit)), ir.Constant(_int64, 0)
        )

    for row in emitter.accumulators:
        for accumulator in row:
            builder.store(builder.fmul(alpha, builder.load(accumulator)), accumulator)
    with builder.if_then(flag(BIAS)):
        for m, row in enumerate(emitter.accumulators):
            bias = emitter.splat(
                builder.load(emitter.at(args["bias"], ir.Constant(_int64, m))), emitter.vector
            )
            for accumulator in row:
                builder.store(builder.fadd(builder.load(accumulator), bias), accumulator)
    full = builder.icmp_signed(">=", args["width"], ir.Constant(_int64, tile.vectors * tile.lanes))
    with builder.if_else(full) as (then, otherwise):
        for case, masks in ((then, False), (otherwise, True)):
            with case:
                _emit_stores(emitter, args, masks, flag(ADD))


def _emit_stores(emitter, args, masked, add):
    builder, tile = emitter.builder, emitter.tile
    masks = [None] * tile.vectors
    if masked:
        masks = [
            emitter.lanes_below(builder.sub(args["width"], ir.Constant(_int64, v * tile.lanes)))
            for v in range(tile.vectors)
        ]
    with builder.if_else(add) as (then, otherwise):
        for case, adds in ((then, True), (otherwise, False)):
            with case:
                for m, row in enumerate(emitter.accumulators):
                    start = builder.mul(args["c_step"], ir.Constant(_int64, m))
                    for v, accumulator in enumerate(row):
                        place = builder.add(start, ir.Constant(_int64, v * tile.lanes))
                        value = builder.load(accumulator)
                        if adds:
                            value = builder.fadd(value, _load_c(emitter, args["c"], place, masks[v]))
                        emitter.store(value, args["c"], place, masks[v])


def _load_c(emitter, c, place, mask):
    if mask is None:
        return emitter.load(c, place)
    name = f"llvm.masked.load.v{emitter.tile.lanes}{emitter.suffix}.p0"
    address = emitter.vector_at(c, place)
    return emitter.call(name, emitter.vector, address, ir.Constant(_int32, emitter.align), mask, emitter.zero)


#: The arguments of every micro-kernel; "T*" and "i*" are pointers to elements and to int64, "i" is an int64, "T" an element.
ARGUMENTS = {
    "outer": "i",  # steps j of a "rows" operand; 1 otherwise
    "inner": "i",  # steps k, or i of a "rows" operand
    "a": "T*",
    "a_rows": "i*",
    "a_steps": "i*",
    "a_step": "i",
    "b": "T*",
    "b_steps": "i*",
    "b_step": "i",
    "pixels": "i*",
    "gap": "i",
    "c": "T*",
    "c_step": "i",  # elements between two rows of C
    "bias": "T*",
    "alpha": "T",
    "width": "i",  # columns of C that this tile has
    "flags": "i",  # ADD, BIAS
}


def _argument_type(kind, dtype):
    return {"i": types.int64, "i*": types.CPointer(types.int64), "T": dtype, "T*": types.CPointer(dtype)}[
        kind
    ]


@intrinsic
def _multiply(typing_context, tile, arguments):
    """Emit the micro-kernel that `tile` describes; `arguments` is the tuple of `ARGUMENTS`."""

    def emit(context, builder, signature, values):
        args = dict(zip(ARGUMENTS, cgutils.unpack_tuple(builder, values[1]), strict=True))
        emitter = _Emitter(builder, tile, context)
        (_emit_rows_loop if tile.a == "rows" else _emit_columns_loop)(emitter, args)
        _emit_write_out(emitter, args)
        return context.get_dummy_value()

    return types.void(tile, arguments), emit


def _micro_kernel(
    tile,
    outer,
    inner,
    a,
    a_rows,
    a_steps,
    a_step,
    b,
    b_steps,
    b_step,
    pixels,
    gap,
    c,
    c_step,
    bias,
    alpha,
    width,
    flags,
):
    _multiply(
        tile,
        (
            outer,
            inner,
            a,
            a_rows,
            a_steps,
            a_step,
            b,
            b_steps,
            b_step,
            pixels,
            gap,
            c,
            c_step,
            bias,
            alpha,
            width,
            flags,
        ),
    )


@cache
def _compiled(tile):
    signature = types.void(tile, *(_argument_type(kind, tile.dtype) for kind in ARGUMENTS.values()))
    return numba.cfunc(signature, cache=True)(_micro_kernel)


def micro_kernel(
    dtype, rows: int, vectors: int, a: str = "columns", b: str = "steps", spans: int = 1, masked: bool = False
) -> int:
    """Return the address of a micro-kernel, compiled if need be.

    dtype: NumPy type of the elements; the other arguments are those of `Tile`.
    """
    tile = Tile(numba.from_dtype(dtype), lanes_of(dtype), rows, vectors, a, b, spans, masked)
    return _compiled(tile).address


@intrinsic
def at(typing_context, array, index):
    """Return the address of element `index` of a C-contiguous array, counted in memory order."""
    if array.layout != "C":
        raise numba.TypingError("the engine computes on C-contiguous arrays only")

    def emit(context, builder, signature, values):
        data = context.make_array(signature.args[0])(context, builder, values[0]).data
        return builder.gep(data, [values[1]])

    return types.CPointer(array.dtype)(array, types.int64), emit


@intrinsic
def multiply_tile(
    typing_context,
    address,
    outer,
    inner,
    a,
    a_rows,
    a_steps,
    a_step,
    b,
    b_steps,
    b_step,
    pixels,
    gap,
    c,
    c_step,
    bias,
    alpha,
    width,
    flags,
):
    """Call the micro-kernel at `address`; the other arguments are `ARGUMENTS`, with pointers made by `at`."""
    kinds = [_argument_type(kind, a.dtype) for kind in ARGUMENTS.values()]

    def emit(context, builder, signature, values):
        tile = ir.Constant(cgutils.voidptr_t, None)
        argument_types = [tile.type, *(value.type for value in values[1:])]
        function_type = ir.FunctionType(ir.VoidType(), argument_types)
        function = builder.inttoptr(values[0], function_type.as_pointer())
        builder.call(function, [tile, *values[1:]])
        return context.get_dummy_value()

    return types.void(types.int64, *kinds), emit
