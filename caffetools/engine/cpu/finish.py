"""What may still be done to the outputs of a convolution while they are in a near cache:

    y = f(scale[m] y + shift[m] + residual)        f(v) = v where v > 0, else slope v

for the outputs of channel m; a normalisation, another branch of the net and a ReLU that follow a convolution
then cost no pass over memory. NaNs go through.

    finish_tile(address, (y, step, rows, columns), (scale, shift, residual, slope, adds))

is the vector kernel: y[r * step + j], r < rows, j < columns, with scale[r] and shift[r], and with
residual[r * step + j] if `adds` is not 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

import numba
import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, register_model

from caffetools.engine.cpu import simd
from caffetools.engine.cpu.jit import CACHED, kernel
from caffetools.engine.cpu.simd import number

finish_tile = simd.call_kernel


@dataclass(frozen=True)
class Finish:
    """The steps that finish an output.

    scale, shift: (channels,). residual: what is added, an array of y's shape, or None. slope: of the ReLU; 1 for
    none.
    """

    scale: np.ndarray
    shift: np.ndarray
    residual: np.ndarray | None = None
    slope: float = 1.0

    @cached_property
    def arguments(self) -> tuple:
        """This as kernels take it."""
        scalar = self.scale.dtype.type
        residual = self.scale[:0] if self.residual is None else self.residual.reshape(-1)
        return finisher(self.scale.dtype), self.scale, self.shift, residual, scalar(self.slope)


def arguments_of(finish: Finish | None, dtype) -> tuple:
    """Return a finish, or that there is none, as kernels take it."""
    return _nothing(dtype) if finish is None else finish.arguments


@cache
def _nothing(dtype):
    empty = np.empty(0, dtype)
    return 0, empty, empty, empty, dtype.type(1)


class Finisher(simd.KernelType):
    """The type of the kernel that finishes a tile."""

    def __init__(self, dtype, lanes: int):
        super().__init__(dtype, lanes, "")


register_model(Finisher)(simd.KernelModel)


def _finish(emitter, y, step, rows, columns, scale, shift, residual, slope, adds):
    builder, size = emitter.builder, number(emitter.kind.lanes)
    slopes = emitter.splat(slope, emitter.vector)
    whole = builder.mul(builder.sdiv(columns, size), size)
    tail = emitter.lanes_below(builder.sub(columns, whole))
    multiply_add = f"llvm.fma.v{emitter.kind.lanes}{emitter.suffix}"

    def finish(row, place, factor, more, added, mask):
        def load(pointer):
            at = emitter.at(pointer, row)
            if mask is None:
                return emitter.load(at, place)
            return emitter.masked_load(at, place, mask, emitter.zero)

        value = emitter.call(multiply_add, emitter.vector, load(y), factor, more)
        if added:
            value = builder.fadd(value, load(residual))
        # Written so that a NaN goes through unchanged.
        below = builder.fcmp_ordered("<", value, emitter.zero)
        value = builder.select(below, builder.fmul(slopes, value), value)
        emitter.store(value, emitter.at(y, row), place, mask)

    with builder.if_else(builder.icmp_signed("!=", adds, number(0))) as branches:
        for branch, added in zip(branches, (True, False), strict=True):
            with branch, cgutils.for_range(builder, rows, intp=simd.int64) as loop:
                row = builder.mul(loop.index, step)
                factor, more = (
                    emitter.splat(builder.load(emitter.at(p, loop.index)), emitter.vector)
                    for p in (scale, shift)
                )
                with cgutils.for_range_slice(builder, number(0), whole, size, intp=simd.int64) as (j, _):
                    finish(row, j, factor, more, added, None)
                with builder.if_then(builder.icmp_signed("<", whole, columns)):
                    finish(row, whole, factor, more, added, tail)


@intrinsic
def _emit_finisher(typing_context, kind, target, steps):
    def emit(context, builder, signature, values):
        arguments = (*cgutils.unpack_tuple(builder, values[1]), *cgutils.unpack_tuple(builder, values[2]))
        _finish(simd.Emitter(builder, kind, context), *arguments)
        return context.get_dummy_value()

    return types.void(kind, target, steps), emit


def _finish_tile(kind, target, steps):
    _emit_finisher(kind, target, steps)


@cache
def _compiled(kind):
    pointer, size = types.CPointer(kind.dtype), types.int64
    target = types.Tuple([pointer, size, size, size])
    steps = types.Tuple([pointer, pointer, pointer, kind.dtype, size])
    return numba.cfunc(types.void(kind, target, steps), cache=CACHED)(_finish_tile)


@cache
def finisher(dtype) -> int:
    """Return the address of the kernel of `finish_tile` for NumPy's type `dtype`."""
    return _compiled(Finisher(numba.from_dtype(dtype), simd.lanes_of(dtype))).address


@kernel
def finish_rows(finish, channel, y, place, step, rows, columns):
    """Finish the outputs y[place + r * step + j], r < rows, j < columns, of the channels from `channel` on.

    finish: what `arguments_of` returns. y: flat.
    """
    address, scale, shift, residual, slope = finish
    if address != 0:
        adds = 1 if residual.size > 0 else 0
        finish_tile(
            address,
            (simd.at(y, place), step, rows, columns),
            (simd.at(scale, channel), simd.at(shift, channel), simd.at(residual, place * adds), slope, adds),
        )


@kernel
def finish_value(finish, channel, value, place):
    """Return one finished output; `place` is where it belongs in y."""
    address, scale, shift, residual, slope = finish
    if address == 0:
        return value
    value = scale[channel] * value + shift[channel]
    if residual.size > 0:
        value += residual[place]
    return slope * value if value < 0 else value
