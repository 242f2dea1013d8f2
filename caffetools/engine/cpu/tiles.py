"""Micro-kernels: small tiles of a matrix product held in vector registers.

A micro-kernel computes one tile of C = A B, `rows` x (`vectors` * lanes) elements. The accumulators stay in
registers while the kernel walks the common axis k; at each step it loads `vectors` vectors of B and
multiplies them by `rows` scalars of A, broadcast one after the other. Where the operands lie decides the
speed, so it is part of the kernel's type, its form:

    "columns"  A: a[k * a_step + m], a packed panel or a transposed matrix as it is
               B: b[k * b_step + n], a packed panel or a matrix as it is
    "table"    A: as above
               B: b[taps[k] + pixel(n)], an image; its pixels may lie on several rows of it ("spans", see
               `Tile`)
    "rows"     A: a[a_rows[m] + a_steps[j] + i], k = (j, i), rows of a matrix, or the pixels that taps see
               B: b[k * b_step + n]
    "blocks"   A: a[a_steps[j] + i * a_step + m], k = (j, i), the columns of several matrices
               B: b[b_steps[j] + i * b_step + n], the rows of several matrices
    "dots"     A: a[m * a_step + k], a few rows
               B: b[b_rows[n] + k], rows too; here the lanes are k, the tile has `rows` x `vectors` elements, and the
               bias belongs to its columns
    "sweep"    A: a[m * a_step + k], k < `vectors`
               B: b[k * b_step + n]; the tile is as wide as C, the rows of B go by side by side, and there is no
               bias

From numba kernels: `multiply_tile(address, (operands of the form, see FORMS), (c, c_step, bias, alpha, width,
flags))`, which computes c[m * c_step + n] = alpha * sum_k A B, plus bias[m] if flags has BIAS, plus what C
held if it has ADD, for n < width. Pointers are made by `simd.at`.
"""

from __future__ import annotations

from functools import cache

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, register_model

from caffetools.engine.cpu import simd
from caffetools.engine.cpu.jit import CACHED
from caffetools.engine.cpu.simd import number

#: Flags of a micro-kernel: add the tile to C instead of storing it; add bias[m] to row m.
ADD, BIAS = 1, 2
#: Image rows that the pixels of one vector may lie on.
LONGEST_SPAN = 3
#: Steps that one pass of a "rows" kernel makes: its row addresses are too many for registers, so fetch them
#: less often.
UNROLL = 4
#: Vectors of each row that one pass of a "dots" kernel takes, with one row of A and with several. The rows of B come
#: from memory: a long pass leaves little besides loads in the queue of the processor, so that more of them wait at a
#: time. With several rows of A the queue is full of products, so elements are fetched that many ahead.
LONG_PASS, SHORT_PASS, FETCHED_AHEAD = 8, 2, 256

#: Bytes of a line of the caches.
LINE = 64

multiply_tile = simd.call_kernel


class Tile(simd.KernelType):
    """The type of a micro-kernel.

    spans: in the form "table", how many rows of the image the pixels of a vector may lie on. A vector is
    described by spans + 1 integers, (address, bound 1, ..., bound spans): lanes from bound s on are read `s *
    gap` further, and the last bound is the number of lanes in use.
    """

    def __init__(self, dtype, lanes: int, rows: int, vectors: int, form: str, spans: int):
        self.rows, self.vectors, self.form, self.spans = rows, vectors, form, spans
        self.exact = simd.masked_loads()
        super().__init__(dtype, lanes, f", {rows}x{vectors}, {form}, {spans}, {self.exact}")


register_model(Tile)(simd.KernelModel)


class TileEmitter(simd.Emitter):
    """Holds the accumulators of a tile and the operands by name."""

    def __init__(self, builder, tile, context, names, values):
        super().__init__(builder, tile, context)
        for name, value in zip(names, values, strict=True):
            setattr(self, name, value)
        self.accumulators = [
            [cgutils.alloca_once_value(builder, self.zero) for _ in range(tile.vectors)]
            for _ in range(tile.rows)
        ]

    def times(self, index, step):
        return self.builder.mul(index, step)

    def element_at(self, pointer, index):
        return self.builder.load(self.at(pointer, index))

    def add_products(self, m, vector, vectors):
        """Add the products of `vector` with each of `vectors` to row m of the tile."""
        for accumulator, other in zip(self.accumulators[m], vectors, strict=True):
            total = self.multiply_add(vector, other, self.builder.load(accumulator))
            self.builder.store(total, accumulator)

    def step(self, scalars, vectors):
        """Add the outer product of one step of k to the accumulators; `scalars[m]` is an address."""
        for m, address in enumerate(scalars):
            scalar = self.splat(self.builder.load(address, align=self.align), self.vector)
            self.add_products(m, scalar, vectors)

    def column(self, a, k, a_step):
        """Return the addresses of the tile's rows in column k of A."""
        start = self.at(a, self.times(k, a_step))
        return [self.at(start, m) for m in range(self.kind.rows)]

    def row(self, b, k, b_step):
        """Return the vectors of row k of B."""
        start = self.at(b, self.times(k, b_step))
        return [self.load(start, number(v * self.kind.lanes)) for v in range(self.kind.vectors)]


def _columns_loop(emitter):
    with cgutils.for_range(emitter.builder, emitter.steps, intp=simd.int64) as loop:
        vectors = emitter.row(emitter.b, loop.index, emitter.b_step)
        emitter.step(emitter.column(emitter.a, loop.index, emitter.a_step), vectors)


def _table_loop(emitter):
    builder, tile = emitter.builder, emitter.kind
    pixels, masks = [], []
    for v in range(tile.vectors):
        place, *bounds = (
            emitter.element_at(emitter.pixels, v * (tile.spans + 1) + s) for s in range(tile.spans + 1)
        )
        below = [emitter.lanes_below(bound) for bound in bounds]
        between = [builder.and_(b, builder.not_(a)) for a, b in zip(below, below[1:], strict=False)]
        pixels.append(emitter.at(emitter.b, place))
        masks.append([below[0], *between])
    with cgutils.for_range(builder, emitter.steps, intp=simd.int64) as loop:
        tap = emitter.element_at(emitter.taps, loop.index)
        vectors = [_pixels_of_tap(emitter, pixels[v], tap, masks[v]) for v in range(tile.vectors)]
        emitter.step(emitter.column(emitter.a, loop.index, emitter.a_step), vectors)


def _pixels_of_tap(emitter, pointer, place, masks):
    """Load one vector of pixels whose lanes lie on several rows of the image, `gap` apart."""
    value = emitter.zero
    for s, mask in enumerate(masks):
        if s > 0:
            place = emitter.builder.add(place, emitter.gap)
        if emitter.kind.exact:
            value = emitter.masked_load(pointer, place, mask, value)
        else:
            value = emitter.builder.select(mask, emitter.load(pointer, place), value)
    return value


def _rows_loop(emitter):
    builder = emitter.builder
    rows = [emitter.at(emitter.a, emitter.element_at(emitter.a_rows, m)) for m in range(emitter.kind.rows)]
    whole = builder.mul(builder.sdiv(emitter.inner, number(UNROLL)), number(UNROLL))
    parts = (number(0), whole, UNROLL), (whole, emitter.inner, 1)
    with cgutils.for_range(builder, emitter.outer, intp=simd.int64) as outer:
        start = emitter.element_at(emitter.a_steps, outer.index)
        first = builder.mul(outer.index, emitter.inner)
        for begin, end, stride in parts:
            with cgutils.for_range_slice(builder, begin, end, number(stride), intp=simd.int64) as (i, _):
                for u in range(stride):
                    here = builder.add(i, number(u))
                    vectors = emitter.row(emitter.b, builder.add(first, here), emitter.b_step)
                    offset = builder.add(start, here)
                    emitter.step([emitter.at(row, offset) for row in rows], vectors)


def _blocks_loop(emitter):
    with cgutils.for_range(emitter.builder, emitter.outer, intp=simd.int64) as outer:
        a = emitter.at(emitter.a, emitter.element_at(emitter.a_steps, outer.index))
        b = emitter.at(emitter.b, emitter.element_at(emitter.b_steps, outer.index))
        with cgutils.for_range(emitter.builder, emitter.inner, intp=simd.int64) as loop:
            vectors = emitter.row(b, loop.index, emitter.b_step)
            emitter.step(emitter.column(a, loop.index, emitter.a_step), vectors)


def _dots_loop(emitter):
    builder, tile = emitter.builder, emitter.kind
    rows = [emitter.at(emitter.a, builder.mul(emitter.a_step, number(m))) for m in range(tile.rows)]
    columns = [emitter.at(emitter.b, emitter.element_at(emitter.b_rows, v)) for v in range(tile.vectors)]

    def add_products(load):
        vectors = [load(column) for column in columns]
        for m, row in enumerate(rows):
            emitter.add_products(m, load(row), vectors)

    begin = number(0)
    for vectors in (LONG_PASS if tile.rows == 1 else SHORT_PASS, 1):
        stride = number(vectors * tile.lanes)
        end = builder.mul(builder.sdiv(emitter.steps, stride), stride)
        with cgutils.for_range_slice(builder, begin, end, stride, intp=simd.int64) as (first, _):
            for v in range(vectors):
                k = builder.add(first, number(v * tile.lanes))
                for column in columns if tile.rows > 1 else ():
                    emitter.prefetch(emitter.at(column, builder.add(k, number(FETCHED_AHEAD))), to_write=False)
                add_products(lambda row, k=k: emitter.load(row, k))
        begin = end
    left = builder.sub(emitter.steps, begin)
    mask = emitter.lanes_below(left)
    with builder.if_then(builder.icmp_signed(">", left, number(0))):
        add_products(lambda row: emitter.masked_load(row, begin, mask, emitter.zero))


def _sweep(emitter):
    builder, tile = emitter.builder, emitter.kind
    alpha, adds = emitter.splat(emitter.alpha, emitter.vector), _has(emitter, ADD)
    b_rows = [emitter.at(emitter.b, builder.mul(emitter.b_step, number(k))) for k in range(tile.vectors)]
    c_rows = [emitter.at(emitter.c, builder.mul(emitter.c_step, number(m))) for m in range(tile.rows)]
    factors = []
    for m in range(tile.rows):
        place = builder.mul(emitter.a_step, number(m))
        row = [emitter.element_at(emitter.a, builder.add(place, number(k))) for k in range(tile.vectors)]
        factors.append([emitter.splat(value, emitter.vector) for value in row])

    def add_products(n, mask=None):
        def load(row):
            return emitter.load(row, n) if mask is None else emitter.masked_load(row, n, mask, emitter.zero)

        if mask is None and tile.rows > 1:
            for row in b_rows:
                emitter.prefetch(emitter.at(row, builder.add(n, number(FETCHED_AHEAD))), to_write=False)
        others = [load(row) for row in b_rows]
        for row, values in zip(c_rows, factors, strict=True):
            total = emitter.zero
            for value, other in zip(values, others, strict=True):
                total = emitter.multiply_add(value, other, total)
            total = builder.fmul(alpha, total)
            # What C held is read where it is not wanted as well: it is near, and may be anything.
            total = builder.select(adds, builder.fadd(total, load(row)), total)
            emitter.store(total, row, n, mask)

    lanes = number(tile.lanes)
    whole = builder.mul(builder.sdiv(emitter.width, lanes), lanes)
    with cgutils.for_range_slice(builder, number(0), whole, lanes, intp=simd.int64) as (n, _):
        add_products(n)
    left = builder.sub(emitter.width, whole)
    with builder.if_then(builder.icmp_signed(">", left, number(0))):
        add_products(whole, emitter.lanes_below(left))


def _fetch_tile(emitter):
    """Ask for the tile's part of C, which nothing has told the processor of, long before it is written."""
    builder, tile = emitter.builder, emitter.kind
    for m in range(tile.rows):
        start = emitter.at(emitter.c, builder.mul(emitter.c_step, number(m)))
        for v in range(0, tile.vectors * tile.lanes * emitter.align, LINE):
            emitter.prefetch(builder.gep(builder.bitcast(start, cgutils.voidptr_t), [number(v)]), to_write=True)


def _write_tile(emitter):
    builder, tile = emitter.builder, emitter.kind
    alpha = emitter.splat(emitter.alpha, emitter.vector)
    for row in emitter.accumulators:
        for accumulator in row:
            builder.store(builder.fmul(alpha, builder.load(accumulator)), accumulator)
    with builder.if_then(_has(emitter, BIAS)):
        for m, row in enumerate(emitter.accumulators):
            bias = emitter.splat(emitter.element_at(emitter.bias, m), emitter.vector)
            for accumulator in row:
                builder.store(builder.fadd(builder.load(accumulator), bias), accumulator)
    full = builder.icmp_signed(">=", emitter.width, number(tile.vectors * tile.lanes))
    with builder.if_else(full) as (then, otherwise):
        with then:
            _store(emitter, [None] * tile.vectors)
        with otherwise:
            left = (builder.sub(emitter.width, number(v * tile.lanes)) for v in range(tile.vectors))
            _store(emitter, [emitter.lanes_below(lanes) for lanes in left])


def _write_sums(emitter):
    """Write the sums of the accumulators' lanes."""
    builder = emitter.builder
    nothing = ir.Constant(emitter.element, 0.0)
    adds, biased = _has(emitter, ADD), _has(emitter, BIAS)
    for m, row in enumerate(emitter.accumulators):
        for v, accumulator in enumerate(row):
            place = emitter.at(emitter.c, builder.add(builder.mul(emitter.c_step, number(m)), number(v)))
            total = builder.fmul(emitter.alpha, emitter.sum_of_lanes(builder.load(accumulator)))
            for wanted, pointer in ((biased, emitter.at(emitter.bias, v)), (adds, place)):
                with builder.if_else(wanted) as (then, otherwise):
                    with then:
                        more, here = builder.load(pointer), builder.block
                    with otherwise:
                        there = builder.block
                value = builder.phi(emitter.element)
                value.add_incoming(more, here)
                value.add_incoming(nothing, there)
                total = builder.fadd(total, value)
            builder.store(total, place)


def _has(emitter, flag):
    return emitter.builder.icmp_signed("!=", emitter.builder.and_(emitter.flags, number(flag)), number(0))


def _store(emitter, masks):
    """Store the tile, or add it to C; masks: the lanes of each vector that exist, None for all."""
    builder = emitter.builder
    with builder.if_else(_has(emitter, ADD)) as branches:
        for branch, adds in zip(branches, (True, False), strict=True):
            with branch:
                for m, row in enumerate(emitter.accumulators):
                    start = emitter.at(emitter.c, builder.mul(emitter.c_step, number(m)))
                    for v, (accumulator, mask) in enumerate(zip(row, masks, strict=True)):
                        place, value = number(v * emitter.kind.lanes), builder.load(accumulator)
                        if adds and mask is None:
                            value = builder.fadd(value, emitter.load(start, place))
                        elif adds:
                            value = builder.fadd(value, emitter.masked_load(start, place, mask, emitter.zero))
                        emitter.store(value, start, place, mask)


#: For each form, what writes the loop over k and the result, and the operands in the order of a call.
FORMS = {
    "columns": (_columns_loop, _write_tile, ("steps", "a", "a_step", "b", "b_step")),
    "table": (_table_loop, _write_tile, ("steps", "a", "a_step", "b", "taps", "pixels", "gap")),
    "rows": (_rows_loop, _write_tile, ("outer", "inner", "a", "a_rows", "a_steps", "b", "b_step")),
    "blocks": (
        _blocks_loop,
        _write_tile,
        ("outer", "inner", "a", "a_steps", "a_step", "b", "b_steps", "b_step"),
    ),
    "sweep": (_sweep, None, ("a", "a_step", "b", "b_step")),
    "dots": (_dots_loop, _write_sums, ("steps", "a", "a_step", "b", "b_rows")),
}
RESULT = ("c", "c_step", "bias", "alpha", "width", "flags")


@intrinsic
def _emit_tile(typing_context, tile, operands, result):
    def emit(context, builder, signature, values):
        write_loop, write_result, names = FORMS[tile.form]
        arguments = [*cgutils.unpack_tuple(builder, values[1]), *cgutils.unpack_tuple(builder, values[2])]
        emitter = TileEmitter(builder, tile, context, names + RESULT, arguments)
        if write_result is _write_tile:
            _fetch_tile(emitter)
        write_loop(emitter)
        if write_result:
            write_result(emitter)
        return context.get_dummy_value()

    return types.void(tile, operands, result), emit


def _multiply(tile, operands, result):
    _emit_tile(tile, operands, result)


@cache
def _compiled(tile):
    pointer, indices = types.CPointer(tile.dtype), types.CPointer(types.int64)
    special = {"a": pointer, "b": pointer, "c": pointer, "bias": pointer, "alpha": tile.dtype}
    special |= dict.fromkeys(("a_rows", "a_steps", "b_rows", "b_steps", "taps", "pixels"), indices)
    groups = (
        types.Tuple([special.get(name, types.int64) for name in names])
        for names in (FORMS[tile.form][-1], RESULT)
    )
    return numba.cfunc(types.void(tile, *groups), cache=CACHED)(_multiply)


@cache
def micro_kernel(dtype, rows: int, vectors: int, form: str = "columns", spans: int = 1) -> int:
    """Return the address of a micro-kernel for NumPy's type `dtype`, compiled if need be; see `Tile`."""
    return _compiled(Tile(numba.from_dtype(dtype), simd.lanes_of(dtype), rows, vectors, form, spans)).address
