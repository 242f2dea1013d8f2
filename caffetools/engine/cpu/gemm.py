"""Matrix products: C = alpha op(A) op(B) + beta C on C-contiguous matrices.

The common axis is walked in blocks whose strip of B fits the first-level cache. B is packed by the job that
uses it, in a buffer of its thread; A is packed once for all, unless it is stored transposed and can be read
as it is. How the work is cut depends on the shapes alone, so the result is the same bit for bit whatever the
number of threads.
"""

from __future__ import annotations

from functools import lru_cache

import numba
import numpy as np

from caffetools.engine.cpu import simd
from caffetools.engine.cpu.jit import kernel, parallel_kernel
from caffetools.engine.cpu.panels import Panels, panel_height, panel_kernel, panel_start
from caffetools.engine.cpu.tiles import ADD, multiply_tile
from caffetools.engine.cpu.turn import move, mover, turn, turner
from caffetools.engine.cpu.workspace import scratch, thread_scratch
from caffetools.glog import check

#: Steps of the common axis in one block: a strip of B is 256 x 32 floats, 32 KiB.
K_BLOCK = 256
#: Panels of A that one job multiplies with its part of B, and most tiles of that part.
PANEL_BLOCK, TILE_BLOCK = 32, 8
#: Rows of B that are packed at a time.
PACK_ROWS = 8
#: Products with fewer multiplications than this stay on the calling thread: waking others costs more.
SERIAL_BELOW = 500_000
#: How many jobs a product is cut into where its size allows; enough to keep many threads evenly busy.
JOBS = 32


def gemm(
    trans_a: bool, trans_b: bool, alpha: float, a: np.ndarray, b: np.ndarray, beta: float, c: np.ndarray
) -> None:
    """Compute C = alpha op(A) op(B) + beta C in place.

    a, b, c: C-contiguous 2-D arrays of one type, float32 or float64. op(A) is (m, k), op(B) is (k, n), C is
    (m, n). As in BLAS, C is not read when beta is 0 and the product is not formed when k is 0.
    """
    rows, depth = a.shape[::-1] if trans_a else a.shape
    depth_b, columns = b.shape[::-1] if trans_b else b.shape
    if depth != depth_b or c.shape != (rows, columns):
        shapes = f"shapes do not fit: {a.shape}, {b.shape}, {c.shape}"
        check(False, "op(A) (m, k) op(B) (k, n) = C (m, n)", shapes)
    if rows == 0 or columns == 0:
        return
    if depth == 0:
        c *= beta
        return
    scalar = c.dtype.type
    panels, tiling = _plan(rows, columns, c.dtype)
    run = _multiply_serial if rows * columns * depth < SERIAL_BELOW else _multiply_parallel
    packed = a.reshape(-1) if trans_a else scratch("gemm a", rows * depth, c.dtype)
    strips = thread_scratch("gemm b", tiling[2] * K_BLOCK * tiling[1], c.dtype)
    copiers = turner(c.dtype), mover(c.dtype)
    run(
        trans_a, trans_b, scalar(alpha), a, packed, b, strips, scalar(beta), c, depth, panels, tiling, copiers
    )


@lru_cache(maxsize=1024)
def _plan(rows, columns, dtype):
    """Return how a product is cut: the panels of A and (lanes, columns of a tile of C, tiles of one job)."""
    lanes = simd.lanes_of(dtype)
    vectors = 2 if columns > lanes else 1
    panels = Panels.cut(rows)
    tiles = -(-columns // (vectors * lanes))
    blocks = -(-panels.count // PANEL_BLOCK)
    return panels.with_kernels(dtype, vectors), (
        lanes,
        vectors * lanes,
        max(1, min(TILE_BLOCK, tiles * blocks // JOBS)),
    )


@parallel_kernel
def _multiply_parallel(
    trans_a, trans_b, alpha, a, packed, b, strips, beta, c, depth, panels, tiling, copiers
):
    if not trans_a:
        for panel in numba.prange(panels[0]):
            _pack_a(copiers, a, panels, panel, tiling[0], depth, packed)
    for job in numba.prange(_job_count(c.shape[1], panels, tiling)):
        strip = numba.get_thread_id() * strips[1]
        _multiply_job(
            job, trans_a, trans_b, alpha, packed, b, strips, strip, beta, c, depth, panels, tiling, copiers
        )


@kernel
def _multiply_serial(trans_a, trans_b, alpha, a, packed, b, strips, beta, c, depth, panels, tiling, copiers):
    if not trans_a:
        for panel in range(panels[0]):
            _pack_a(copiers, a, panels, panel, tiling[0], depth, packed)
    for job in range(_job_count(c.shape[1], panels, tiling)):
        _multiply_job(
            job, trans_a, trans_b, alpha, packed, b, strips, 0, beta, c, depth, panels, tiling, copiers
        )


@kernel
def _job_count(columns, panels, tiling):
    _, tile_width, tile_block = tiling
    return _parts(_parts(columns, tile_width), tile_block) * _parts(panels[0], PANEL_BLOCK)


@kernel
def _parts(total, size):
    """Return how many parts of at most `size` make up `total`."""
    return (total + size - 1) // size


@kernel
def _multiply_job(
    job, trans_a, trans_b, alpha, packed, b, strips, strip, beta, c, depth, panels, tiling, copiers
):
    """Compute one block of C: `PANEL_BLOCK` panels of A times `tile_block` tiles of B."""
    rows, columns = c.shape
    lanes, tile_width, tile_block = tiling
    blocks = _parts(panels[0], PANEL_BLOCK)
    first_tile, first_panel = job // blocks * tile_block, job % blocks * PANEL_BLOCK
    last_tile = min(first_tile + tile_block, _parts(columns, tile_width))
    last_panel = min(first_panel + PANEL_BLOCK, panels[0])
    one, zero = c.dtype.type(1), c.dtype.type(0)
    if beta != zero and beta != one:
        for m in range(panel_start(panels, first_panel), panel_start(panels, last_panel)):
            for n in range(first_tile * tile_width, min(last_tile * tile_width, columns)):
                c[m, n] *= beta
    for first_k in range(0, depth, K_BLOCK):
        steps = min(K_BLOCK, depth - first_k)
        flags = ADD if first_k > 0 or beta != zero else 0
        _pack_b(
            copiers, trans_b, b, first_k, steps, first_tile, last_tile, lanes, tile_width, strips[0], strip
        )
        for tile in range(first_tile, last_tile):
            column = tile * tile_width
            width = min(tile_width, columns - column)
            packed_b = simd.at(strips[0], strip + (tile - first_tile) * steps * tile_width)
            for panel in range(first_panel, last_panel):
                start, a_step = panel_start(panels, panel), panel_height(panels, panel)
                place = start * depth + first_k * a_step
                if trans_a:
                    place, a_step = first_k * rows + start, rows
                multiply_tile(
                    panel_kernel(panels, panel),
                    (steps, simd.at(packed, place), a_step, packed_b, tile_width),
                    (simd.at(c, start * columns + column), columns, simd.at(c, 0), alpha, width, flags),
                )


@kernel
def _pack_a(copiers, a, panels, panel, lanes, depth, packed):
    """Copy a panel of A (m, k) to [k][row of the panel]."""
    start, height = panel_start(panels, panel) * depth, panel_height(panels, panel)
    for r in range(0, height, lanes):
        rows = min(lanes, height - r)
        target = simd.at(packed, start + r), height, rows
        turn(copiers[0], (simd.at(a, start + r * depth), depth, rows, depth), target)


@kernel
def _pack_b(copiers, trans_b, b, first_k, steps, first_tile, last_tile, lanes, tile_width, strips, strip):
    """Copy the part of B that some tiles need to [tile][k][column], zero beyond the matrix."""
    columns = b.shape[0] if trans_b else b.shape[1]
    # A few rows for all tiles before the next rows: memory is read in longer pieces.
    rows = steps if trans_b else PACK_ROWS
    for k in range(0, steps, rows):
        count = min(rows, steps - k)
        for tile in range(first_tile, last_tile):
            place = strip + ((tile - first_tile) * steps + k) * tile_width
            for j in range(0, tile_width, lanes):
                column = tile * tile_width + j
                used = max(0, min(lanes, columns - column))
                column = min(column, columns - 1)
                target = simd.at(strips, place + j), tile_width, lanes
                if trans_b:
                    source = simd.at(b, column * b.shape[1] + first_k + k)
                    turn(copiers[0], (source, b.shape[1], used, count), target)
                else:
                    source = simd.at(b, (first_k + k) * b.shape[1] + column)
                    move(copiers[1], (source, b.shape[1], count, used), target)
