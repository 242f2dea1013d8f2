"""Matrix products on the device: C = alpha op(A) op(B) + beta C on flat arrays that hold C-contiguous matrices.

cuBLAS computes them where the package nvmath-python is installed, a tiled kernel of our own where it is not, and NumPy
in the simulator, where a product by Python threads would take minutes.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

import numpy as np
from numba import cuda

from caffetools.engine.gpu import precision
from caffetools.engine.gpu.device import current
from caffetools.engine.gpu.events import simulated
from caffetools.engine.gpu.launch import cuda_kernel
from caffetools.engine.gpu.memory import host_view
from caffetools.glog import info

#: A block has SIDE x SIDE threads; each computes EACH x EACH elements of C. One thread in four in the simulator.
SIDE, EACH = (2, 2) if simulated() else (16, 4)
TILE = SIDE * EACH
#: Steps of the common axis that a block keeps in shared memory.
DEPTH = SIDE


def gemm(
    trans_a: bool,
    trans_b: bool,
    rows: int,
    columns: int,
    depth: int,
    alpha: float,
    a,
    b,
    beta: float,
    c,
    *,
    starts: tuple[int, int, int] = (0, 0, 0),
    batch: int = 1,
    steps: tuple[int, int, int] = (0, 0, 0),
) -> None:
    """Compute C = alpha op(A) op(B) + beta C; C is (rows, columns), the common axis has `depth` steps.

    a, b, c: flat device arrays of one type, float32 or float64. A is stored (rows, depth), or (depth, rows) with
    trans_a; B (depth, columns), or (columns, depth) with trans_b. starts: where A, B and C begin in their arrays.
    batch: how many products are computed, `steps` elements of A, B and C apart (0: the same matrix for all).
    As in BLAS, C is not read when beta is 0. In half precision (see `precision`) A and B are rounded.
    """
    if rows == 0 or columns == 0 or batch == 0:
        return
    product, convert = _product()
    engine = current()
    if precision.is_half(engine, c.dtype):
        ends = rows * depth + (batch - 1) * steps[0], depth * columns + (batch - 1) * steps[1]
        a, b = convert(engine, (a, starts[0], ends[0]), (b, starts[1], ends[1]))
        starts = 0, 0, starts[2]
    product(trans_a, trans_b, (rows, columns, depth), alpha, (a, b, c), beta, starts, batch, steps)


@cache
def _product():
    """Return the function that multiplies here, and the one that makes its operands in half precision."""
    if simulated():
        return _numpy, precision.rounded
    multiply, why = _cublas()
    if multiply is None:
        info(f"Matrices are multiplied by a kernel of our own, without cuBLAS: {why}")
        return tiled, precision.rounded
    return multiply, precision.halved


def _cublas():
    """Return cuBLAS's function, or None and why it cannot be used."""
    if find_spec("nvmath") is None:
        return None, "the package nvmath-python is missing (pip install caffetools[gpu])"
    try:
        from caffetools.engine.gpu import cublas

        cublas.handle()
    except Exception as error:
        # Whatever it is, a library that is missing or does not suit the driver: there is another kernel.
        return None, f"its package does not work here ({type(error).__name__}: {str(error).partition(chr(10))[0]})"
    return cublas.multiply, ""


def _numpy(trans_a, trans_b, sizes, alpha, matrices, beta, starts, batch, steps):
    rows, columns, depth = sizes
    a, b, c = (host_view(matrix) for matrix in matrices)
    for i in range(batch):
        at_a, at_b, at_c = (start + i * step for start, step in zip(starts, steps, strict=True))
        left = a[at_a : at_a + rows * depth].reshape((depth, rows) if trans_a else (rows, depth))
        right = b[at_b : at_b + depth * columns].reshape((columns, depth) if trans_b else (depth, columns))
        target = c[at_c : at_c + rows * columns].reshape(rows, columns)
        with np.errstate(all="ignore"):
            product = c.dtype.type(alpha) * ((left.T if trans_a else left) @ (right.T if trans_b else right))
            target[...] = product + c.dtype.type(beta) * target if beta else product


def tiled(trans_a, trans_b, sizes, alpha, matrices, beta, starts, batch, steps) -> None:
    """The product by our own kernel, with the arguments of `cublas.multiply`."""
    rows, columns, depth = (np.int32(size) for size in sizes)
    a, b, c = matrices
    blocks = -(-int(rows) // TILE) * -(-int(columns) // TILE) * batch
    scalar = c.dtype.type
    args = (bool(trans_a), bool(trans_b), rows, columns, depth, scalar(alpha), a, np.int64(starts[0]))
    args += (np.int64(steps[0]), b, np.int64(starts[1]), np.int64(steps[1]), scalar(beta), c)
    args += (np.int64(starts[2]), np.int64(steps[2]), np.int32(batch))
    engine = current()
    multiply_tiles.start(engine, min(blocks, 2) if engine.simulated else blocks, SIDE * SIDE, args)


@cuda_kernel
def multiply_tiles(
    trans_a,
    trans_b,
    rows,
    columns,
    depth,
    alpha,
    a,
    a_start,
    a_step,
    b,
    b_start,
    b_step,
    beta,
    c,
    c_start,
    c_step,
    batch,
):
    """Each block computes tiles of TILE x TILE elements of C; it must have SIDE * SIDE threads."""
    strip_a = cuda.shared.array((DEPTH, TILE), a.dtype)
    strip_b = cuda.shared.array((DEPTH, TILE), a.dtype)
    sums = cuda.local.array((EACH, EACH), a.dtype)
    zero = a.dtype.type(0)
    thread = cuda.threadIdx.x
    line, column_of_thread = thread // SIDE, thread % SIDE
    across = (columns + TILE - 1) // TILE
    tiles = (rows + TILE - 1) // TILE * across
    for job in range(cuda.blockIdx.x, tiles * batch, cuda.gridDim.x):
        item, tile = job // tiles, job % tiles
        first_row, first_column = tile // across * TILE, tile % across * TILE
        at_a, at_b, at_c = a_start + item * a_step, b_start + item * b_step, c_start + item * c_step
        for i in range(EACH):
            for j in range(EACH):
                sums[i, j] = zero
        for first_k in range(0, depth, DEPTH):
            for place in range(thread, DEPTH * TILE, SIDE * SIDE):
                # Neighbouring threads read neighbouring elements, whichever way a matrix is stored.
                if trans_a:
                    k, m = place // TILE, place % TILE
                else:
                    k, m = place % DEPTH, place // DEPTH
                value = zero
                if first_row + m < rows and first_k + k < depth:
                    if trans_a:
                        value = a[at_a + (first_k + k) * rows + first_row + m]
                    else:
                        value = a[at_a + (first_row + m) * depth + first_k + k]
                strip_a[k, m] = value
                if trans_b:
                    k, n = place % DEPTH, place // DEPTH
                else:
                    k, n = place // TILE, place % TILE
                value = zero
                if first_column + n < columns and first_k + k < depth:
                    if trans_b:
                        value = b[at_b + (first_column + n) * depth + first_k + k]
                    else:
                        value = b[at_b + (first_k + k) * columns + first_column + n]
                strip_b[k, n] = value
            cuda.syncthreads()
            for k in range(DEPTH):
                for i in range(EACH):
                    factor = strip_a[k, line + i * SIDE]
                    for j in range(EACH):
                        sums[i, j] += factor * strip_b[k, column_of_thread + j * SIDE]
            cuda.syncthreads()
        for i in range(EACH):
            for j in range(EACH):
                m, n = first_row + line + i * SIDE, first_column + column_of_thread + j * SIDE
                if m < rows and n < columns:
                    place = at_c + m * columns + n
                    value = alpha * sums[i, j]
                    c[place] = value if beta == zero else value + beta * c[place]
