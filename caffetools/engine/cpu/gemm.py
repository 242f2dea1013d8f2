"""Matrix products: C = alpha op(A) op(B) + beta C on C-contiguous matrices.

C is computed block by block. The part of B that a block needs is packed, by the job that uses it, into strips as wide
as a tile, which stay in the second-level cache while panels of rows of A go by. A is read where it lies. Where its rows
lie so far apart that they would push each other out of the cache, panels are lower, or if it is transposed it is packed
as well. A product with few rows uses each number of B too few times for any copy: there B is read as it lies, some rows
side by side, and what they add to C is added to it at once.

How the common axis is cut depends on the shapes alone, so the result is the same bit for bit whatever the number of
threads; how C is cut depends on it.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from typing import NamedTuple

import numba
import numpy as np

from caffetools.engine.cpu import simd
from caffetools.engine.cpu.jit import kernel, parallel_kernel
from caffetools.engine.cpu.one_thread import threads_now
from caffetools.engine.cpu.operands import copiers_of, pack_a, pack_b, pack_count, parts
from caffetools.engine.cpu.panels import Panels, panel_height, panel_kernel, panel_start
from caffetools.engine.cpu.tiles import ADD, micro_kernel, multiply_tile
from caffetools.engine.cpu.workspace import scratch, thread_scratch
from caffetools.glog import check

#: Bytes of B that a job packs, which the second-level cache holds, and most steps of the common axis in one block: for
#: few rows of C less, so that longer pieces of B's rows are packed.
BLOCK_BYTES, K_BLOCK, SHORT_K_BLOCK = 256 << 10, 1024, 256
#: Products with fewer multiplications than this stay on the calling thread: waking others costs more.
SERIAL_BELOW = 500_000
#: Jobs for each thread where the size allows.
JOBS = 4
#: Rows of C that are worth a block of B of their own.
BLOCK_ROWS = 256
#: What it costs to pack an element of B, to store one of C, to begin a row of a block of C, in elements more to store,
#: and to begin a job, in multiplications.
PACK_COST, STORE_COST, NARROW, JOB_COST = 16, 16, 128, 20_000
#: Rows that lie this far apart, or a multiple of it, fall on the same lines of a cache. Packing such rows of A pays for
#: so many columns, unless they are many and not transposed: so many at a time stay in the first-level cache beside what
#: goes by of B. Rows of B that lie otherwise need no packing for up to so many rows of C, the others for two panels.
ALIAS_BYTES, PACK_COLUMNS, ALIASED_ROWS, DIRECT_ROWS = 4096, 512, 10, 128
#: Rows of C that are few, and that are few where B is so large that it comes from memory; rows of B that go by side by
#: side there, and as many columns at most, of which C's part stays in the first-level cache.
FEW_ROWS, FEW_ROWS_OF_LARGE, LARGE_BYTES = 8, 10, 16 << 20
SWEPT_ROWS, SWEPT_ROWS_OF_LARGE, SWEPT_COLUMNS = 8, 4, 4096


def gemm(
    trans_a: bool, trans_b: bool, alpha: float, a: np.ndarray, b: np.ndarray, beta: float, c: np.ndarray
) -> None:
    """Compute C = alpha op(A) op(B) + beta C in place.

    a, b, c: C-contiguous 2-D arrays of one type, float32 or float64. op(A) is (m, k), op(B) is (k, n), C is
    (m, n). As in BLAS, C is not read when beta is 0 and the product is not formed when k is 0.
    """
    way = _way(trans_a, trans_b, a.shape, b.shape, c.shape, c.dtype)
    if way is None:
        way = _way(trans_a, trans_b, a.shape, b.shape, c.shape, c.dtype, threads_now())
    plan, few, packed_size, strips_size, serial, nothing = way
    alpha, beta = float(alpha), float(beta)
    if few:
        run = _few_serial if serial else _few_parallel
        run(alpha, a, b, beta, c, plan)
        return
    if plan is None:
        c *= beta
        return
    if strips_size == 0:
        strips, step = nothing, 0
    elif serial:
        strips, step = scratch("gemm b", strips_size, c.dtype), 0
    else:
        strips, step = thread_scratch("gemm b", strips_size, c.dtype)
    packed = scratch("gemm a", packed_size, c.dtype) if packed_size else strips
    run = _multiply_serial if serial else _multiply_parallel
    run(alpha, a, b, beta, c, plan, packed, strips, step)


class Way(NamedTuple):
    """How a product is computed.

    plan: what the kernel needs to know, or None where there is nothing to multiply. few: whether C has few rows.
    packed, strips: elements of A that are packed, and of B that a job packs at most. serial: whether the calling thread
    does it all. nothing: stands in for strips where B is read as it lies.
    """

    plan: np.ndarray | None
    few: bool
    packed: int
    strips: int
    serial: bool
    nothing: np.ndarray


@lru_cache(maxsize=1024)
def _way(trans_a, trans_b, a_shape, b_shape, c_shape, dtype, threads=None):
    """Return the way of a product, or None where it takes to know the number of threads: asking for it takes as long as
    a small product."""
    rows, depth = a_shape[::-1] if trans_a else a_shape
    depth_b, columns = b_shape[::-1] if trans_b else b_shape
    if depth != depth_b or c_shape != (rows, columns):
        shapes = f"shapes do not fit: {a_shape}, {b_shape}, {c_shape}"
        check(False, "op(A) (m, k) op(B) (k, n) = C (m, n)", shapes)
    operations, nothing = rows * columns * depth, np.empty(1, dtype)
    if operations == 0:
        return Way(None, False, 0, 0, True, nothing)
    serial = operations < SERIAL_BELOW or 1 in (threads, numba.config.NUMBA_NUM_THREADS)
    if serial:
        threads = 1
    elif threads is None:
        return None
    few = FEW_ROWS_OF_LARGE if depth * columns * dtype.itemsize >= LARGE_BYTES else FEW_ROWS
    if not trans_a and not trans_b and rows <= few:
        return Way(_few_plan(rows, columns, depth, threads, dtype), True, 0, 0, serial, nothing)
    plan, packs, strips = _plan(rows, columns, depth, trans_a, trans_b, threads, dtype)
    return Way(plan, False, rows * depth if packs else 0, strips, serial, nothing)


def _plan(rows, columns, depth, trans_a, trans_b, threads, dtype):
    """Return how a product is cut, in one array, since each argument of a compiled function costs time; whether A is
    packed; and how many elements of B a job packs at most.

    The array holds (trans_a, trans_b, whether A is packed, whether B is read as it lies), the panels of A, (lanes,
    columns of a tile of C, steps of a block, tiles and panels of a job), the kernels that pack, and the offsets of the
    rows of a panel.
    """
    lanes = simd.lanes_of(dtype)
    vectors = 2 if columns > lanes else 1
    width = vectors * lanes
    apart = (rows if trans_a else depth) * dtype.itemsize
    aliased = apart % ALIAS_BYTES == 0
    low = aliased and not trans_a and (rows >= BLOCK_ROWS or columns < PACK_COLUMNS)
    panels = Panels.cut_at_most(rows, min(ALIASED_ROWS, simd.max_rows())) if low else Panels.cut(rows)
    direct, steps = reading_of_b(rows, columns, depth, panels.tall, dtype, trans_b)
    tiles = -(-columns // width)
    most = max(1, BLOCK_BYTES // (steps * width * dtype.itemsize))
    if threads <= 2:
        tile_block, panel_block = _few_blocks(rows, tiles, most, panels.count, threads)
    else:
        tile_block, panel_block = _many_blocks(width, tiles, most, panels, depth, threads, direct)
    packs = aliased and not low and columns >= PACK_COLUMNS
    form = "columns" if trans_a or packs else "rows"
    tiling = lanes, width, steps, tile_block, panel_block
    cut = *panels.with_kernels(dtype, vectors, form=form), *tiling, *copiers_of(dtype)
    plan = np.array([trans_a, trans_b, packs, direct, *cut, *(np.arange(panels.tall) * depth)], np.int64)
    return plan, packs, 0 if direct and columns % width == 0 else steps * tile_block * width


@kernel
def _parts_of_plan(plan):
    """Return the parts of the array that `_plan` makes."""
    layout = plan[0] != 0, plan[1] != 0, plan[2] != 0, plan[3] != 0
    panels = plan[4], plan[5], plan[6], plan[7], plan[8]
    tiling = plan[9], plan[10], plan[11], plan[12], plan[13]
    return layout, panels, tiling, (plan[14], plan[15], plan[16]), plan[17:]


def _few_blocks(rows, tiles, most, panel_count, threads):
    """Return the tiles and panels of a job, for one thread or two."""
    jobs = 1 if threads == 1 else JOBS * threads
    tile_block = min(most, tiles)
    if rows < jobs * BLOCK_ROWS:
        tile_block = min(most, max(1, tiles // jobs))

    def tiles_of_a_thread(size):
        blocks = -(-tiles // size)
        return -(-blocks // threads) * size

    # Of the sizes up to there, the largest that leaves no thread with more tiles than need be.
    tile_block = min(range(1, tile_block + 1), key=lambda size: (tiles_of_a_thread(size), -size))
    jobs_per_block = -(-jobs // -(-tiles // tile_block))
    return tile_block, -(-panel_count // min(panel_count, jobs_per_block))


def _many_blocks(width, tiles, most, panels, depth, threads, direct):
    """Return the tiles and panels of a job that are expected to take so many threads least time."""

    def time(block):
        tile_block, panel_block = block
        columns, rows = tile_block * width, panel_block * panels.tall
        job = columns * rows * depth + (0 if direct else PACK_COST * columns * depth)
        job += STORE_COST * rows * (columns + NARROW) + JOB_COST
        return -(-(-(-tiles // tile_block) * -(-panels.count // panel_block)) // threads) * job

    blocks = product(_sizes(min(most, tiles), tiles), _sizes(panels.count, panels.count))
    return min(blocks, key=lambda block: (time(block), -block[0]))


def _sizes(most, total):
    """Return the sizes up to `most` of blocks that make up `total`, without those that make no fewer blocks."""
    return sorted({-(-total // count) for count in range(-(-total // most), total + 1)})


def reading_of_b(
    rows: int, columns: int, depth: int, tall: int, dtype: np.dtype, trans_b: bool = False
) -> tuple[bool, int]:
    """Return whether B is read as it lies, and the most steps of the common axis in one block.

    rows, columns, depth: of the product. tall: rows of a panel of A.
    """
    aliased = columns * dtype.itemsize % ALIAS_BYTES == 0
    direct = not trans_b and rows <= (2 * tall if aliased else DIRECT_ROWS)
    long = rows >= BLOCK_ROWS or direct and not aliased
    return direct, min(depth, K_BLOCK if long else SHORT_K_BLOCK)


@parallel_kernel
def _multiply_parallel(alpha, a, b, beta, c, plan, packed, strips, strip_step):
    layout, panels, tiling, copiers, row_offsets = _parts_of_plan(plan)
    scales = c.dtype.type(alpha), c.dtype.type(beta)
    if layout[2]:
        for part in numba.prange(pack_count(layout[0], a, panels)):
            pack_a(copiers, layout[0], a, panels, part, tiling[0], packed)
    lying = packed if layout[2] else a.reshape(-1)
    for job in numba.prange(_job_count(c.shape[1], panels, tiling)):
        strip = numba.get_thread_id() * strip_step
        _multiply_job(job, layout, scales, lying, b, strips, strip, c, panels, row_offsets, tiling, copiers)


@kernel
def _multiply_serial(alpha, a, b, beta, c, plan, packed, strips, strip_step):
    layout, panels, tiling, copiers, row_offsets = _parts_of_plan(plan)
    scales = c.dtype.type(alpha), c.dtype.type(beta)
    if layout[2]:
        for part in range(pack_count(layout[0], a, panels)):
            pack_a(copiers, layout[0], a, panels, part, tiling[0], packed)
    lying = packed if layout[2] else a.reshape(-1)
    for job in range(_job_count(c.shape[1], panels, tiling)):
        _multiply_job(job, layout, scales, lying, b, strips, 0, c, panels, row_offsets, tiling, copiers)


@kernel
def _job_count(columns, panels, tiling):
    _, tile_width, _, tile_block, panel_block = tiling
    return parts(parts(columns, tile_width), tile_block) * parts(panels[0], panel_block)


@kernel
def _multiply_job(job, layout, scales, a, b, strips, strip, c, panels, row_offsets, tiling, copiers):
    """Compute one block of C: `panel_block` panels of A times `tile_block` tiles of B; scales: (alpha, beta)."""
    alpha, beta = scales
    trans_a, trans_b, packs, direct = layout
    rows, columns = c.shape
    depth = b.shape[1] if trans_b else b.shape[0]
    lanes, tile_width, most_steps, tile_block, panel_block = tiling
    blocks = parts(panels[0], panel_block)
    first_tile, first_panel = job // blocks * tile_block, job % blocks * panel_block
    last_tile = min(first_tile + tile_block, parts(columns, tile_width))
    last_panel = min(first_panel + panel_block, panels[0])
    area = panel_start(panels, first_panel), panel_start(panels, last_panel), first_tile * tile_width
    _scale(c, area[0], area[1], area[2], min(last_tile * tile_width, columns), beta)
    zero = c.dtype.type(0)
    for first_k in range(0, depth, most_steps):
        steps = min(most_steps, depth - first_k)
        flags = ADD if first_k > 0 or beta != zero else 0
        # Vectors would reach beyond the matrix in a tile that is not full.
        first_packed = max(first_tile, min(last_tile, columns // tile_width)) if direct else first_tile
        pack_b(copiers, trans_b, b, first_k, steps, first_packed, last_tile, lanes, tile_width, strips, strip)
        for panel in range(first_panel, last_panel):
            start, height = panel_start(panels, panel), panel_height(panels, panel)
            for tile in range(first_tile, last_tile):
                column = tile * tile_width
                width = min(tile_width, columns - column)
                place_b, step_b = simd.at(b, first_k * columns + column), columns
                if tile >= first_packed:
                    place_b, step_b = simd.at(strips, strip + (tile - first_packed) * steps * tile_width), tile_width
                target = simd.at(c, start * columns + column), columns, simd.at(c, 0), alpha, width, flags
                if trans_a or packs:
                    place, step = first_k * rows + start, rows
                    if packs:
                        place, step = start * depth + first_k * height, height
                    operands = steps, simd.at(a, place), step, place_b, step_b
                    multiply_tile(panel_kernel(panels, panel), operands, target)
                else:
                    offsets = simd.at(row_offsets, 0)  # the first of them is 0
                    lying = 1, steps, simd.at(a, start * depth + first_k), offsets, offsets, place_b, step_b
                    multiply_tile(panel_kernel(panels, panel), lying, target)


@kernel
def _scale(c, first_row, last_row, first_column, last_column, beta):
    """Multiply a part of C by beta, unless beta is 0 or 1."""
    if beta != c.dtype.type(0) and beta != c.dtype.type(1):
        for m in range(first_row, last_row):
            for n in range(first_column, last_column):
                c[m, n] *= beta


def _few_plan(rows, columns, depth, threads, dtype):
    """Return an array with (rows of B side by side, their micro-kernel, that of the last ones, columns of a job)."""
    count = min(SWEPT_ROWS if rows <= FEW_ROWS else SWEPT_ROWS_OF_LARGE, depth)
    last = micro_kernel(dtype, rows, depth % count or count, form="sweep")
    lanes = simd.lanes_of(dtype)
    width = min(SWEPT_COLUMNS, -(-columns // (threads * lanes)) * lanes)
    return np.array([count, micro_kernel(dtype, rows, count, form="sweep"), last, width], np.int64)


@parallel_kernel
def _few_parallel(alpha, a, b, beta, c, plan):
    scales = c.dtype.type(alpha), c.dtype.type(beta)
    for job in numba.prange(parts(c.shape[1], plan[3])):
        _few_job(job, scales, a, b, c, plan)


@kernel
def _few_serial(alpha, a, b, beta, c, plan):
    scales = c.dtype.type(alpha), c.dtype.type(beta)
    for job in range(parts(c.shape[1], plan[3])):
        _few_job(job, scales, a, b, c, plan)


@kernel
def _few_job(job, scales, a, b, c, plan):
    """Compute some columns of C from a few rows of B after the others, as they lie; scales: (alpha, beta)."""
    alpha, beta = scales
    count, most_kernel, last_kernel, job_width = plan[0], plan[1], plan[2], plan[3]
    depth, columns = b.shape
    first, last = job * job_width, min((job + 1) * job_width, columns)
    _scale(c, 0, c.shape[0], first, last, beta)
    zero = c.dtype.type(0)
    for k in range(0, depth, count):
        multiply_tile(
            most_kernel if k + count <= depth else last_kernel,
            (simd.at(a, k), depth, simd.at(b, k * columns + first), columns),
            (simd.at(c, first), columns, simd.at(c, 0), alpha, last - first, ADD if k > 0 or beta != zero else 0),
        )
