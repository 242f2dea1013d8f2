"""Sums over arrays, for kernels, in an order that is written down here.

    total(x)                   sum x
    dot(x, y)                  sum x y
    dot_below(g, x)            sum g x where x <= 0 or x is no number
    squares(x, mean)           sum (x - mean)^2
    total_and_dot(g, x, mean)  sum g   and   sum g (x - mean)
    wide_squares(x)            sum x^2, in float64

The compiler may not put additions in another order (see `jit`), and one after the other they would take four times as
long as it takes to read the numbers. So element i is added to partial sum i % 64, which makes four vectors; what is
beyond the last whole 64 goes to the first of them and what is beyond the last whole 16 to the last, and then the halves
are added up, again and again. The result depends on the numbers and on how many there are: not on the width of the
machine's vectors, nor on where the numbers lie, nor on the kernel around it.

Arrays are C-contiguous, and each is as long as the first. float32 is summed in float32 but for `wide_squares`, float64
in float64; the sum of no numbers is 0.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numba
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from caffetools.engine.cpu import simd
from caffetools.engine.cpu.jit import kernel
from caffetools.engine.cpu.simd import number

#: Partial sums of a vector, whatever the machine's width, and vectors of them.
LANES, VECTORS = 16, 4


@dataclass(frozen=True)
class Form:
    """What is summed: from the vectors of the arrays and of the scalars, the factors of each sum's terms."""

    terms: Callable
    sums: int = 1
    wide: bool = False


def _total(emitter, x):
    return [(x,)]


def _dot(emitter, x, y):
    return [(x, y)]


def _dot_below(emitter, g, x):
    above = emitter.builder.fcmp_ordered(">", x, emitter.zero)
    return [tuple(emitter.builder.select(above, emitter.zero, factor) for factor in (g, x))]


def _squares(emitter, x, mean):
    distance = emitter.builder.fsub(x, mean)
    return [(distance, distance)]


def _total_and_dot(emitter, g, x, mean):
    return [(g,), (g, emitter.builder.fsub(x, mean))]


def _wide_squares(emitter, x):
    if x.type != emitter.vector:
        x = emitter.builder.fpext(x, emitter.vector)
    return [(x, x)]


FORMS = {
    "total": Form(_total),
    "dot": Form(_dot),
    "dot_below": Form(_dot_below),
    "squares": Form(_squares),
    "total_and_dot": Form(_total_and_dot, sums=2),
    "wide_squares": Form(_wide_squares, wide=True),
}


class SumEmitter(simd.Emitter):
    """Writes the sums of a form; source: what loads the arrays' elements, which may be narrower than the sums."""

    def __init__(self, builder, context, dtype, form, source, scalars):
        super().__init__(builder, simd.KernelType(dtype, LANES, ""), context)
        self.form, self.source = form, source
        self.scalars = [self.splat(scalar, self.vector) for scalar in scalars]
        self.partial = [
            [cgutils.alloca_once_value(builder, self.zero) for _ in range(VECTORS)] for _ in range(form.sums)
        ]
        # Where this code is itself in a loop, the memory is there already, with the last sums.
        for partial in itertools.chain(*self.partial):
            builder.store(self.zero, partial)

    def add(self, pointers, place, v, mask=None):
        """Add the terms of 16 elements, or those of the mask among them, to vector v of the partial sums."""
        if mask is None:
            vectors = [self.source.load(pointer, place) for pointer in pointers]
        else:
            vectors = [self.source.masked_load(pointer, place, mask, self.source.zero) for pointer in pointers]
        for partial, factors in zip(self.partial, self.form.terms(self, *vectors, *self.scalars), strict=True):
            if mask is not None:
                factors = [self.builder.select(mask, factor, self.zero) for factor in factors]
            before = self.builder.load(partial[v])
            after = self.multiply_add(*factors, before) if len(factors) == 2 else self.builder.fadd(before, *factors)
            self.builder.store(after, partial[v])

    def totals(self):
        """Return the sums of all partial sums."""
        for partial in self.partial:
            a, b, c, d = (self.builder.load(vector) for vector in partial)
            yield self.sum_of_lanes(self.builder.fadd(self.builder.fadd(a, b), self.builder.fadd(c, d)))


@intrinsic(prefer_literal=True)
def _sum(typing_context, name, arrays, scalars):
    form, dtype = FORMS[name.literal_value], arrays.types[0].dtype
    if any(array.layout != "C" or array.dtype != dtype for array in arrays):
        raise numba.TypingError("sums are of C-contiguous arrays of one type")
    result = types.float64 if form.wide else dtype

    def emit(context, builder, signature, values):
        made = [
            context.make_array(kind)(context, builder, value)
            for kind, value in zip(arrays.types, cgutils.unpack_tuple(builder, values[1]), strict=True)
        ]
        pointers, size = [array.data for array in made], made[0].nitems
        source = simd.Emitter(builder, simd.KernelType(dtype, LANES, ""), context)
        emitter = SumEmitter(builder, context, result, form, source, cgutils.unpack_tuple(builder, values[2]))
        ends = [number(0)]
        for v in (VECTORS, 1):
            ends.append(builder.mul(builder.sdiv(size, number(v * LANES)), number(v * LANES)))
            loop = cgutils.for_range_slice(builder, *ends[-2:], number(v * LANES), intp=simd.int64)
            with loop as (place, _):
                for i in range(v):
                    emitter.add(pointers, builder.add(place, number(i * LANES)), i)
        left = builder.sub(size, ends[-1])
        with builder.if_then(builder.icmp_signed(">", left, number(0))):
            emitter.add(pointers, ends[-1], VECTORS - 1, emitter.lanes_below(left))
        return context.make_tuple(builder, signature.return_type, list(emitter.totals()))

    scalar = types.UniTuple(result, len(scalars))
    return types.UniTuple(result, form.sums)(name, arrays, scalar), emit


@kernel
def total(x):
    """Return the sum of x."""
    return _sum("total", (x,), ())[0]


@kernel
def dot(x, y):
    """Return the sum of x y."""
    return _sum("dot", (x, y), ())[0]


@kernel
def dot_below(g, x):
    """Return the sum of g x where x is not above 0."""
    return _sum("dot_below", (g, x), ())[0]


@kernel
def squares(x, mean):
    """Return the sum of (x - mean)^2."""
    return _sum("squares", (x,), (mean,))[0]


@kernel
def total_and_dot(g, x, mean):
    """Return the sum of g and that of g (x - mean)."""
    return _sum("total_and_dot", (g, x), (mean,))


@kernel
def wide_squares(x):
    """Return the sum of x^2, computed in float64."""
    return _sum("wide_squares", (x,), ())[0]
