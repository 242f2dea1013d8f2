"""Transposing and copying strips of a matrix, for the places where channels, pixels or images change roles.

    turn(address, (a, a_step, rows, columns), (out, out_step, width))
        out[j * out_step + i] = a[i * a_step + j]       i < rows <= lanes, j < columns
    move(address, (a, a_step, rows, columns), (out, out_step, width))
        out[i * out_step + j] = a[i * a_step + j]       i < rows, j < columns <= lanes

Each row of `out` is one vector: lanes beyond those written become zero up to `width`, and are left alone from
there on.
"""

from __future__ import annotations

from functools import cache

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, register_model

from caffetools.engine.cpu import simd
from caffetools.engine.cpu.simd import number

turn = simd.call_kernel
move = simd.call_kernel


class Strip(simd.KernelType):
    """The type of a kernel that copies a strip, turned or as it is."""

    def __init__(self, dtype, lanes: int, turned: bool):
        self.turned = turned
        super().__init__(dtype, lanes, f", {turned}")


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
    whole_rows = builder.and_(builder.icmp_signed(">=", rows, size), builder.icmp_signed(">=", width, size))
    with cgutils.for_range_slice(builder, number(0), columns, size, intp=simd.int64) as (first, _):
        left = builder.sub(columns, first)
        whole = builder.and_(whole_rows, builder.icmp_signed(">=", left, size))
        source, target = emitter.at(a, first), emitter.at(out, builder.mul(first, out_step))
        with builder.if_else(whole) as branches:
            for branch, bounds in zip(branches, (None, (rows, left, width)), strict=True):
                with branch:
                    _turn_square(emitter, source, a_step, target, out_step, bounds)


def _turn_square(emitter, source, a_step, target, out_step, bounds):
    """Transpose one square, or the part of it that exists: `bounds` = (rows, columns, width)."""
    builder, lanes = emitter.builder, range(emitter.kind.lanes)
    nothing = ir.Constant(emitter.mask, [0] * emitter.kind.lanes)

    def only_if(index, bound, mask):
        return builder.select(builder.icmp_signed("<", number(index), bound), mask, nothing)

    sources = [emitter.at(source, builder.mul(a_step, number(i))) for i in lanes]
    targets = [emitter.at(target, builder.mul(out_step, number(j))) for j in lanes]
    if bounds is None:
        for address, vector in zip(
            targets, _transpose(builder, [emitter.load(s, 0) for s in sources]), strict=True
        ):
            emitter.store(vector, address, 0)
        return
    rows, columns, width = bounds
    seen, written = emitter.lanes_below(columns), emitter.lanes_below(width)
    vectors = [emitter.masked_load(sources[i], 0, only_if(i, rows, seen), emitter.zero) for i in lanes]
    for j, vector in enumerate(_transpose(builder, vectors)):
        emitter.store(vector, targets[j], 0, only_if(j, columns, written))


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


@intrinsic
def _emit_strip(typing_context, kind, source, target):
    def emit(context, builder, signature, values):
        emitter = simd.Emitter(builder, kind, context)
        arguments = (*cgutils.unpack_tuple(builder, values[1]), *cgutils.unpack_tuple(builder, values[2]))
        (_turn if kind.turned else _move)(emitter, *arguments)
        return context.get_dummy_value()

    return types.void(kind, source, target), emit


def _copy_strip(kind, source, target):
    _emit_strip(kind, source, target)


@cache
def _compiled(kind):
    pointer = types.CPointer(kind.dtype)
    source = types.Tuple([pointer, types.int64, types.int64, types.int64])
    target = types.Tuple([pointer, types.int64, types.int64])
    return numba.cfunc(types.void(kind, source, target), cache=True)(_copy_strip)


def turner(dtype) -> int:
    """Return the address of the kernel of `turn` for NumPy's type `dtype`."""
    return _compiled(Strip(numba.from_dtype(dtype), simd.lanes_of(dtype), True)).address


def mover(dtype) -> int:
    """Return the address of the kernel of `move` for NumPy's type `dtype`."""
    return _compiled(Strip(numba.from_dtype(dtype), simd.lanes_of(dtype), False)).address
