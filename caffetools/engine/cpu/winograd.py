"""The transforms of Winograd's convolution F(4x4, 3x3), as vector kernels.

A 4 x 4 tile of outputs of a 3 x 3 filter comes from 6 x 6 pixels d. With a polynomial evaluated at six points
in place of each row and column (Toom and Cook; Lavin and Gray, 2015)

    y = A^T [(G w G^T) * (B^T d B)] A                                  * multiplies element by element

    dw = G^T [(B^T d B) * (A dy A^T)] G      summed over all tiles

36 multiplications stand in for 144. The points 0, +-3/4, +-3/2 and infinity lose half a digit against the
plain sum; the common 0, +-1, +-2 lose a whole one. All entries of A and B are exact in binary.

From numba kernels, every transform is M X M^T for `count` squares X, each of whose elements is one vector:

    transform(address, (count, x, x_step, x_row, x_column), (out, out_step, out_row, out_column, bias))

The steps are those between squares, rows and columns, in elements. The transform "result" adds the vector at
`bias` to every output; the others leave it alone.
"""

from __future__ import annotations

from functools import cache

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, register_model
from numpy.polynomial import polynomial

from caffetools.engine.cpu import simd
from caffetools.engine.cpu.jit import CACHED

#: Outputs along a tile's edge, taps of a filter's, and pixels that a tile sees.
TILE, TAPS = 4, 3
EDGE = TILE + TAPS - 1
POINTS = (0.0, 0.75, -0.75, 1.5, -1.5)

transform = simd.call_kernel


@cache
def matrices() -> dict[str, np.ndarray]:
    """Return B^T ("image", 6 x 6), G ("filter", 6 x 3), A^T ("result", 4 x 6), A ("gradient"), G^T ("taps")."""
    powers = np.array(POINTS)[:, None] ** np.arange(TILE)
    image = np.zeros((EDGE, EDGE))
    scale = np.ones(EDGE)
    for i, point in enumerate(POINTS):
        others = [other for other in POINTS if other != point]
        image[i, : EDGE - 1] = polynomial.polyfromroots(others)
        scale[i] = np.prod([point - other for other in others])
    image[-1] = polynomial.polyfromroots(POINTS)
    taps = np.vstack([powers[:, :TAPS], [0, 0, 1]]) / scale[:, None]
    result = np.vstack([powers, [0, 0, 0, 1]]).T
    return {"image": image, "filter": taps, "result": result, "gradient": result.T, "taps": taps.T}


class Transform(simd.KernelType):
    """The type of a kernel that transforms squares; `name` is a key of `matrices`."""

    def __init__(self, dtype, lanes: int, name: str):
        self.name_of_matrix = name
        super().__init__(dtype, lanes, f", {name}, {POINTS}")


register_model(Transform)(simd.KernelModel)


class TransformEmitter(simd.Emitter):
    def product(self, matrix, vectors):
        """Return matrix times a column of vectors.

        Points come in pairs +-p: a pair of columns alike but for signs is first replaced by the sum and the
        difference of its vectors, and a pair of such rows is the sum and the difference of two parts.
        """
        matrix, vectors = matrix.copy(), list(vectors)
        for i, j in _pairs(matrix.T):
            same = matrix[:, i] == matrix[:, j]
            total = self.builder.fadd(vectors[i], vectors[j])
            difference = self.builder.fsub(vectors[i], vectors[j])
            vectors[i], vectors[j] = total, difference
            column = matrix[:, i].copy()
            matrix[:, i], matrix[:, j] = np.where(same, column, 0), np.where(same, 0, column)
        rows = [None] * len(matrix)
        for i, j in _pairs(matrix):
            same = matrix[i] == matrix[j]
            even, odd = (self.sum(np.where(part, matrix[i], 0), vectors) for part in (same, ~same))
            rows[i], rows[j] = self.builder.fadd(even, odd), self.builder.fsub(even, odd)
        return [row or self.sum(matrix[i], vectors) for i, row in enumerate(rows)]

    def sum(self, factors, vectors):
        """Return the sum of the vectors times their factors."""
        terms = sorted(
            ((factor, vector) for factor, vector in zip(factors, vectors, strict=True) if factor),
            key=lambda term: abs(term[0]) != 1,
        )
        total = None
        for factor, vector in terms:
            constant = ir.Constant(self.vector, [float(np.float32(factor))] * self.kind.lanes)
            if total is None:
                total = vector if factor == 1 else self.builder.fmul(vector, constant)
            elif factor == 1:
                total = self.builder.fadd(total, vector)
            else:
                total = self.multiply_add(vector, constant, total)
        return total


def _pairs(rows):
    """Yield the neighbours that differ in some, but not in all signs, in at least two places."""
    for i in range(1, len(rows) - 1, 2):
        if (abs(rows[i]) == abs(rows[i + 1])).all() and (rows[i] != 0).sum() > 1:
            yield i, i + 1


@intrinsic
def _emit_transform(typing_context, kind, source, target):
    matrix = matrices()[kind.name_of_matrix]

    def emit(context, builder, signature, values):
        emitter = TransformEmitter(builder, kind, context)
        count, x, x_step, x_row, x_column = cgutils.unpack_tuple(builder, values[1])
        out, out_step, out_row, out_column, bias = cgutils.unpack_tuple(builder, values[2])
        biased = kind.name_of_matrix == "result"
        more = emitter.load(bias, 0) if biased else None
        outputs, inputs = range(matrix.shape[0]), range(matrix.shape[1])

        def place(pointer, i, row, j, column):
            offsets = (builder.mul(simd.number(k), step) for k, step in ((i, row), (j, column)))
            return emitter.at(pointer, builder.add(*offsets))

        with cgutils.for_range(builder, count, intp=simd.int64) as loop:
            seen = emitter.at(x, builder.mul(loop.index, x_step))
            written = emitter.at(out, builder.mul(loop.index, out_step))
            columns = [
                emitter.product(matrix, [emitter.load(place(seen, i, x_row, j, x_column), 0) for i in inputs])
                for j in inputs
            ]
            for i in outputs:
                for j, value in enumerate(emitter.product(matrix, [column[i] for column in columns])):
                    value = builder.fadd(value, more) if biased else value
                    emitter.store(value, place(written, i, out_row, j, out_column), 0)
        return context.get_dummy_value()

    return types.void(kind, source, target), emit


def _transform(kind, source, target):
    _emit_transform(kind, source, target)


@cache
def _compiled(kind):
    pointer, size = types.CPointer(kind.dtype), types.int64
    source = types.Tuple([size, pointer, size, size, size])
    target = types.Tuple([pointer, size, size, size, pointer])
    return numba.cfunc(types.void(kind, source, target), cache=CACHED)(_transform)


@cache
def transformer(dtype, name: str) -> int:
    """Return the address of the kernel of a transform for NumPy's type `dtype`."""
    return _compiled(Transform(numba.from_dtype(dtype), simd.lanes_of(dtype), name)).address
