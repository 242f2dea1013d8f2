"""Matrix products: C = alpha op(A) op(B) + beta C on C-contiguous matrices, and the inner-product layer's form of it.

The common axis is walked in blocks whose strip of B fits the first-level cache. B is packed by the job that uses it, in a
buffer of its thread; A is packed once for all, unless it is stored transposed and can be read as it is.
How the work is cut depends on the shapes alone, so the result is the same bit for bit whatever the number of threads.
"""

from __future__ import annotations

from functools import lru_cache

import numba
import numpy as np

from caffetools.engine.cpu import simd
from caffetools.engine.cpu.jit import kernel, parallel_kernel
from caffetools.engine.cpu.panels import Panels, panel_height, panel_start
from caffetools.engine.cpu.workspace import scratch
from caffetools.glog import check

#: Steps of the common axis in one block: a strip of B is 256 x 32 floats, 32 KiB.
K_BLOCK = 256
#: Strips of A that one job multiplies with its part of B.
PANEL_BLOCK = 32
#: Products with fewer multiplications than this stay on the calling thread: waking others costs more.
SERIAL_BELOW = 200_000
#: How many jobs a product is cut into where its size allows; enough to keep many threads evenly busy.
JOBS = 64


def gemm(
    trans_a: bool, trans_b: bool, alpha: float, a: np.ndarray, b: np.ndarray, beta: float, c: np.ndarray
) -> None:
    """Compute C = alpha op(A) op(B) + beta C in place.

    a, b, c: C-contiguous 2-D arrays of one type, float32 or float64. op(A) is (m, k), op(B) is (k, n), C is (m, n).
    As in BLAS, C is not read when beta is 0 and the product is not formed when k is 0.
    """
    rows, depth = a.shape[::-1] if trans_a else a.shape
    depth_b, columns = b.shape[::-1] if trans_b else b.shape
    if depth != depth_b or c.shape != (rows, columns):
        check(
            False,
            "op(A) (m, k) op(B) (k, n) = C (m, n)",
            f"shapes do not fit: {a.shape}, {b.shape}, {c.shape}",
        )
    if rows == 0 or columns == 0:
        return
    if depth == 0:
        c *= beta
        return
    scalar = c.dtype.type
    panels, vectors, kernels, tile_block = _plan(rows, columns, c.dtype)
    run = _multiply_serial if rows * columns * depth < SERIAL_BELOW else _multiply_parallel
    packed = a.reshape(-1) if trans_a else scratch("gemm a", rows * depth, c.dtype)
    strip = K_BLOCK * vectors * simd.lanes_of(c.dtype)
    buffers = scratch("gemm b", numba.config.NUMBA_NUM_THREADS * strip, c.dtype)
    run(
        trans_a, trans_b, scalar(alpha), a, packed, b, scalar(beta), c, depth, panels.count, panels.tall, panels.tall_count,
        kernels, strip // K_BLOCK, tile_block, buffers,
    )  # fmt: skip


@lru_cache(maxsize=1024)
def _plan(rows, columns, dtype):
    """Return how a product is cut: strips of A, vectors in a tile, micro-kernels, tiles of one job."""
    lanes = simd.lanes_of(dtype)
    vectors = 2 if columns > lanes else 1
    panels = Panels.cut(rows, simd.max_rows())
    tiles = -(-columns // (vectors * lanes))
    blocks = -(-panels.count // PANEL_BLOCK)
    tile_block = max(1, tiles * blocks // JOBS)
    return panels, vectors, panels.kernels(dtype, vectors), tile_block


@kernel
def _pack_a(a, panel, tall, tall_count, depth, packed):
    """Copy strip `panel` of A (m, k) to [k][row of the strip]."""
    start, height = panel_start(panel, tall, tall_count), panel_height(panel, tall, tall_count)
    base = start * depth
    flat = a.reshape(-1)
    for r in range(height):
        row = (start + r) * depth
        for k in range(depth):
            packed[base + k * height + r] = flat[row + k]


@kernel
def _pack_b(trans_b, b, first_k, steps, first_column, width, tile_width, buffer, at):
    """Copy the part of B that one tile needs to [k][column], zero beyond the matrix."""
    zero = b.dtype.type(0)
    if trans_b:
        for j in range(width):
            for k in range(steps):
                buffer[at + k * tile_width + j] = b[first_column + j, first_k + k]
        for k in range(steps):
            for j in range(width, tile_width):
                buffer[at + k * tile_width + j] = zero
    else:
        for k in range(steps):
            for j in range(width):
                buffer[at + k * tile_width + j] = b[first_k + k, first_column + j]
            for j in range(width, tile_width):
                buffer[at + k * tile_width + j] = zero


@kernel
def _multiply_job(
    job,
    trans_a,
    trans_b,
    alpha,
    packed,
    b,
    beta,
    c,
    depth,
    panel_count,
    tall,
    tall_count,
    kernels,
    tile_width,
    tile_block,
    buffers,
    thread,
):
    """Compute one block of C: `PANEL_BLOCK` strips of A times `tile_block` tiles of B."""
    rows, columns = c.shape
    blocks = (panel_count + PANEL_BLOCK - 1) // PANEL_BLOCK
    first_tile, first_panel = job // blocks * tile_block, job % blocks * PANEL_BLOCK
    last_tile = min(first_tile + tile_block, (columns + tile_width - 1) // tile_width)
    last_panel = min(first_panel + PANEL_BLOCK, panel_count)
    buffer = thread * K_BLOCK * tile_width
    one, zero = c.dtype.type(1), c.dtype.type(0)
    if beta != zero and beta != one:
        top, bottom = panel_start(first_panel, tall, tall_count), panel_start(last_panel, tall, tall_count)
        for m in range(top, bottom):
            for n in range(first_tile * tile_width, min(last_tile * tile_width, columns)):
                c[m, n] *= beta
    for first_k in range(0, depth, K_BLOCK):
        steps = min(K_BLOCK, depth - first_k)
        flags = simd.ADD if first_k > 0 or beta != zero else 0
        for tile in range(first_tile, last_tile):
            column = tile * tile_width
            width = min(tile_width, columns - column)
            _pack_b(trans_b, b, first_k, steps, column, width, tile_width, buffers, buffer)
            for panel in range(first_panel, last_panel):
                start, height = panel_start(panel, tall, tall_count), panel_height(panel, tall, tall_count)
                if trans_a:
                    place, step = first_k * rows + start, rows
                else:
                    place, step = start * depth + first_k * height, height
                simd.multiply_tile(
                    kernels[0] if panel < tall_count else kernels[1], 1, steps,
                    simd.at(packed, place), simd.at(kernels, 0), simd.at(kernels, 0), step,
                    simd.at(buffers, buffer), simd.at(kernels, 0), tile_width, simd.at(kernels, 0), 0,
                    simd.at(c, start * columns + column), columns, simd.at(c, 0), alpha, width, flags,
                )  # fmt: skip


@parallel_kernel
def _multiply_parallel(
    trans_a,
    trans_b,
    alpha,
    a,
    packed,
    b,
    beta,
    c,
    depth,
    panel_count,
    tall,
    tall_count,
    kernels,
    tile_width,
    tile_block,
    buffers,
):
    if not trans_a:
        for panel in numba.prange(panel_count):
            _pack_a(a, panel, tall, tall_count, depth, packed)
    tiles = (c.shape[1] + tile_width - 1) // tile_width
    jobs = (tiles + tile_block - 1) // tile_block * ((panel_count + PANEL_BLOCK - 1) // PANEL_BLOCK)
    for job in numba.prange(jobs):
        _multiply_job(
            job, trans_a, trans_b, alpha, packed, b, beta, c, depth, panel_count, tall, tall_count, kernels, tile_width, tile_block,
            buffers, numba.get_thread_id(),
        )  # fmt: skip


@kernel
def _multiply_serial(
    trans_a,
    trans_b,
    alpha,
    a,
    packed,
    b,
    beta,
    c,
    depth,
    panel_count,
    tall,
    tall_count,
    kernels,
    tile_width,
    tile_block,
    buffers,
):
    if not trans_a:
        for panel in range(panel_count):
            _pack_a(a, panel, tall, tall_count, depth, packed)
    tiles = (c.shape[1] + tile_width - 1) // tile_width
    jobs = (tiles + tile_block - 1) // tile_block * ((panel_count + PANEL_BLOCK - 1) // PANEL_BLOCK)
    for job in range(jobs):
        _multiply_job(
            job, trans_a, trans_b, alpha, packed, b, beta, c, depth, panel_count, tall, tall_count, kernels, tile_width, tile_block,
            buffers, 0,
        )  # fmt: skip
