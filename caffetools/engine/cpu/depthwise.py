"""Vector kernels of depthwise convolution, with channels as lanes: every element below is one vector.

From numba kernels, with x and the result laid out as [pixel][channel], w and dw as [tap][channel]:

    sum_taps(address, (rows, columns, x, x_row, x_column, tap_row, w, bias), (out,))
        out[i, j] = bias + sum_{a, b} w[a, b] x[i * x_row + a * tap_row + j * x_column + b * dilation]
    sum_pixels(address, (rows, columns, x, x_row, x_column, tap_row, dy), (dw,))
        dw[a, b] += sum_{i, j} dy[i, j] x[i * x_row + a * tap_row + j * x_column + b * dilation]

The steps count elements; the columns of a filter lie `dilation` pixels apart.
"""

from __future__ import annotations

from functools import cache

import numba
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, register_model

from caffetools.engine.cpu import simd
from caffetools.engine.cpu.jit import CACHED
from caffetools.engine.cpu.simd import number

sum_taps = simd.call_kernel
sum_pixels = simd.call_kernel


class Window(simd.KernelType):
    """The type of a kernel for `rows` x `columns` taps; `gradient` tells `sum_pixels` from `sum_taps`."""

    def __init__(self, dtype, lanes: int, rows: int, columns: int, dilation: int, gradient: bool):
        self.rows, self.columns, self.dilation, self.gradient = rows, columns, dilation, gradient
        super().__init__(dtype, lanes, f", {rows}x{columns}, {dilation}, {gradient}")


register_model(Window)(simd.KernelModel)


class WindowEmitter(simd.Emitter):
    """Walks the outputs of a window."""

    def pixels(self, operands, visit):
        """Call visit(index of the output, addresses of what the taps see) in a loop over all outputs."""
        rows, columns, x, x_row, x_column, tap_row = operands
        builder, kind = self.builder, self.kind
        with cgutils.for_range(builder, rows, intp=simd.int64) as row:
            start = self.at(x, builder.mul(row.index, x_row))
            lines = [self.at(start, builder.mul(number(a), tap_row)) for a in range(kind.rows)]
            first = builder.mul(row.index, columns)
            with cgutils.for_range(builder, columns, intp=simd.int64) as column:
                place = builder.mul(column.index, x_column)
                seen = []
                for line in lines:
                    here = self.at(line, place)
                    seen += [self.at(here, b * kind.dilation * kind.lanes) for b in range(kind.columns)]
                visit(builder.mul(builder.add(first, column.index), number(kind.lanes)), seen)


def _sum_taps(emitter, operands, result):
    *walk, w, bias = operands
    taps = range(emitter.kind.rows * emitter.kind.columns)
    factors = [emitter.load(w, t * emitter.kind.lanes) for t in taps]
    start = emitter.load(bias, 0)

    def visit(output, seen):
        total = start
        for factor, address in zip(factors, seen, strict=True):
            total = emitter.multiply_add(factor, emitter.load(address, 0), total)
        emitter.store(total, result[0], output)

    emitter.pixels(walk, visit)


def _sum_pixels(emitter, operands, result):
    builder, (*walk, dy) = emitter.builder, operands
    taps = range(emitter.kind.rows * emitter.kind.columns)
    totals = [cgutils.alloca_once_value(builder, emitter.zero) for _ in taps]
    for total in totals:
        builder.store(emitter.zero, total)

    def visit(output, seen):
        gradient = emitter.load(dy, output)
        for total, address in zip(totals, seen, strict=True):
            value = emitter.multiply_add(gradient, emitter.load(address, 0), builder.load(total))
            builder.store(value, total)

    emitter.pixels(walk, visit)
    for t, total in zip(taps, totals, strict=True):
        place = t * emitter.kind.lanes
        emitter.store(builder.fadd(emitter.load(result[0], place), builder.load(total)), result[0], place)


@intrinsic
def _emit_window(typing_context, kind, operands, result):
    def emit(context, builder, signature, values):
        emitter = WindowEmitter(builder, kind, context)
        unpacked = (cgutils.unpack_tuple(builder, value) for value in values[1:])
        (_sum_pixels if kind.gradient else _sum_taps)(emitter, *unpacked)
        return context.get_dummy_value()

    return types.void(kind, operands, result), emit


def _window(kind, operands, result):
    _emit_window(kind, operands, result)


@cache
def _compiled(kind):
    pointer, size = types.CPointer(kind.dtype), types.int64
    more = [pointer] if kind.gradient else [pointer, pointer]
    operands = types.Tuple([size, size, pointer, size, size, size, *more])
    return numba.cfunc(types.void(kind, operands, types.Tuple([pointer])), cache=CACHED)(_window)


@cache
def window_kernel(dtype, rows: int, columns: int, dilation: int, gradient: bool) -> int:
    """Return the address of a kernel for NumPy's type `dtype`; see `Window`."""
    kind = Window(numba.from_dtype(dtype), simd.lanes_of(dtype), rows, columns, dilation, gradient)
    return _compiled(kind).address
