"""Transposing and copying strips of a matrix, for the places where channels, pixels or images change roles.

    turn(address, (a, a_step, rows, columns), (out, out_step, width))
        out[j * out_step + i] = a[i * a_step + j]       i < rows <= lanes, j < columns
    move(address, (a, a_step, rows, columns), (out, out_step, width))
        out[i * out_step + j] = a[i * a_step + j]       i < rows, j < columns <= lanes
    deal(address, (a, a_step, rows, columns, strips), (out, out_step))
        out[s * out_step + i * columns + j] = a[i * a_step + s * columns + j]   s < strips, i < rows, j < columns

`turn` and `move` write rows of one vector: lanes beyond those written become zero up to `width`, and are left alone
from there on. `deal` cuts rows into strips of any width.
"""

from __future__ import annotations

from functools import cache

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, register_model

from caffetools.engine.cpu import simd
from caffetools.engine.cpu.jit import CACHED, kernel
from caffetools.engine.cpu.simd import number

turn = move = deal = simd.call_kernel


class Strip(simd.KernelType):
    """The type of a kernel that copies a strip or several; way: one of `WAYS`."""

    def __init__(self, dtype, lanes: int, way: str):
        self.way = way
        super().__init__(dtype, lanes, f", {way}")


register_model(Strip)(simd.KernelModel)


def _transpose(builder, vectors):
    """Return the transposed square: at every power of two, halves of pairs of vectors change places."""
    lanes = len(vectors)
    distance = lanes // 2
    while distance:
        low = [lane if not lane & distance else lane - distance + lanes for lane in range(lanes)]
        high = [lane + distance if not lane & distance else lane + lanes for lane in range(lanes)]
        for i in range(lanes):
            if not i & distance:
                pair = vectors[i], vectors[i + distance]
                vectors[i], vectors[i + distance] = (
                    builder.shuffle_vector(*pair, ir.Constant(ir.VectorType(simd.int32, lanes), order))
                    for order in (low, high)
                )
        distance //= 2
    return vectors


def _turn(emitter, a, a_step, rows, columns, out, out_step, width):
    builder, size = emitter.builder, number(emitter.kind.lanes)
    all_rows, all_lanes = (builder.icmp_signed(">=", count, size) for count in (rows, width))
    # Cases from the most frequent to the most general; only the last needs masks, which are slow on some
    # hosts.
    with cgutils.for_range_slice(builder, number(0), columns, size, intp=simd.int64) as (first, _):
        left = builder.sub(columns, first)
        unmasked = builder.and_(all_lanes, builder.icmp_signed(">=", left, size))
        square = _Square(
            emitter, emitter.at(a, first), a_step, emitter.at(out, builder.mul(first, out_step)), out_step
        )
        with builder.if_else(unmasked) as (then, otherwise):
            with then, builder.if_else(all_rows) as (full, partial):
                with full:
                    square.turn(square.load)
                with partial:
                    square.turn(lambda i: square.load_if(i, rows))
            with otherwise:
                square.turn_masked(rows, left, width)


class _Square:
    """Transposes one square of lanes x lanes elements."""

    def __init__(self, emitter, source, a_step, target, out_step):
        builder = emitter.builder
        self.emitter, self.builder, self.lanes = emitter, builder, range(emitter.kind.lanes)
        self.sources = [emitter.at(source, builder.mul(a_step, number(i))) for i in self.lanes]
        self.targets = [emitter.at(target, builder.mul(out_step, number(j))) for j in self.lanes]

    def load(self, i):
        return self.emitter.load(self.sources[i], 0)

    def load_if(self, i, rows):
        """Load row i if it exists, else give zeros."""
        row = cgutils.alloca_once_value(self.builder, self.emitter.zero)
        self.builder.store(self.emitter.zero, row)
        with self.builder.if_then(self.builder.icmp_signed("<", number(i), rows)):
            self.builder.store(self.load(i), row)
        return self.builder.load(row)

    def turn(self, load):
        for target, vector in zip(
            self.targets, _transpose(self.builder, [load(i) for i in self.lanes]), strict=True
        ):
            self.emitter.store(vector, target, 0)

    def turn_masked(self, rows, columns, width):
        """Touch nothing outside `rows` x `columns` of the source and `columns` x `width` of the target."""
        emitter, builder = self.emitter, self.builder
        nothing = ir.Constant(emitter.mask, [0] * len(self.lanes))

        def only_if(index, bound, mask):
            return builder.select(builder.icmp_signed("<", number(index), bound), mask, nothing)

        seen, written = emitter.lanes_below(columns), emitter.lanes_below(width)
        vectors = [
            emitter.masked_load(self.sources[i], 0, only_if(i, rows, seen), emitter.zero) for i in self.lanes
        ]
        for j, vector in enumerate(_transpose(builder, vectors)):
            emitter.store(vector, self.targets[j], 0, only_if(j, columns, written))


def _move(emitter, a, a_step, rows, columns, out, out_step, width):
    builder, size = emitter.builder, number(emitter.kind.lanes)
    seen, written = emitter.lanes_below(columns), emitter.lanes_below(width)
    whole = builder.and_(builder.icmp_signed(">=", columns, size), builder.icmp_signed(">=", width, size))
    with builder.if_else(whole) as branches:
        for branch, masked in zip(branches, (False, True), strict=True):
            with branch, cgutils.for_range(builder, rows, intp=simd.int64) as loop:
                source = emitter.at(a, builder.mul(loop.index, a_step))
                target = emitter.at(out, builder.mul(loop.index, out_step))
                vector = (
                    emitter.masked_load(source, 0, seen, emitter.zero) if masked else emitter.load(source, 0)
                )
                emitter.store(vector, target, 0, written if masked else None)


def _deal(emitter, a, a_step, rows, columns, strips, out, out_step):
    builder, size = emitter.builder, number(emitter.kind.lanes)
    whole = builder.mul(builder.sdiv(columns, size), size)
    mask = emitter.lanes_below(builder.sub(columns, whole))
    ahead = builder.mul(rows, a_step)

    def copy(source, target, mask):
        """Copy one vector of each row."""
        with cgutils.for_range(builder, rows, intp=simd.int64) as loop:
            here = emitter.at(source, builder.mul(loop.index, a_step))
            emitter.prefetch(emitter.at(here, ahead), to_write=False)
            vector = emitter.masked_load(here, 0, mask, emitter.zero) if mask else emitter.load(here, 0)
            emitter.store(vector, target, builder.mul(loop.index, columns), mask)

    with cgutils.for_range(builder, strips, intp=simd.int64) as strip:
        source = emitter.at(a, builder.mul(strip.index, columns))
        target = emitter.at(out, builder.mul(strip.index, out_step))
        with cgutils.for_range_slice(builder, number(0), whole, size, intp=simd.int64) as (j, _):
            copy(emitter.at(source, j), emitter.at(target, j), None)
        with builder.if_then(builder.icmp_signed("<", whole, columns)):
            copy(emitter.at(source, whole), emitter.at(target, whole), mask)


#: For each way to copy, what writes the code, and how many integers follow the address of the source and of the target.
WAYS = {"turn": (_turn, 3, 2), "move": (_move, 3, 2), "deal": (_deal, 4, 1)}


@intrinsic
def _emit_strip(typing_context, kind, source, target):
    def emit(context, builder, signature, values):
        emitter = simd.Emitter(builder, kind, context)
        arguments = (*cgutils.unpack_tuple(builder, values[1]), *cgutils.unpack_tuple(builder, values[2]))
        WAYS[kind.way][0](emitter, *arguments)
        return context.get_dummy_value()

    return types.void(kind, source, target), emit


def _copy_strip(kind, source, target):
    _emit_strip(kind, source, target)


@cache
def _compiled(kind):
    pointer = types.CPointer(kind.dtype)
    operands = (types.Tuple([pointer, *[types.int64] * count]) for count in WAYS[kind.way][1:])
    return numba.cfunc(types.void(kind, *operands), cache=CACHED)(_copy_strip)


def _address(dtype, way):
    return _compiled(Strip(numba.from_dtype(dtype), simd.lanes_of(dtype), way)).address


@cache
def turner(dtype) -> int:
    """Return the address of the kernel of `turn` for NumPy's type `dtype`."""
    return _address(dtype, "turn")


@cache
def mover(dtype) -> int:
    """Return the address of the kernel of `move` for NumPy's type `dtype`."""
    return _address(dtype, "move")


@cache
def dealer(dtype) -> int:
    """Return the address of the kernel of `deal` for NumPy's type `dtype`."""
    return _address(dtype, "deal")


@kernel
def move_block(mover, lanes, a, a_place, a_step, out, out_place, out_step, rows, columns):
    """Copy a block of any width: out[out_place + i * out_step + j] = a[a_place + i * a_step + j]."""
    for j in range(0, columns, lanes):
        width = min(lanes, columns - j)
        move(
            mover,
            (simd.at(a, a_place + j), a_step, rows, width),
            (simd.at(out, out_place + j), out_step, width),
        )
