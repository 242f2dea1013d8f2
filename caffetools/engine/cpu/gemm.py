"""Matrix products: C = alpha op(A) op(B) + beta C on C-contiguous matrices.

C is computed block by block. The part of B that a block needs is packed, by the job that uses it, into strips as wide
as a tile, which stay in the second-level cache while panels of rows of A go by. A is read where it lies. Where its rows
lie so far apart that they would push each other out of the cache, panels are lower, or if it is transposed it is packed
as well. A product with few rows uses each number of B too few times for any copy: there B is read as it lies, row after
row.

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
from caffetools.engine.cpu.operands import copiers_of, pack_a, pack_b, pack_count, parts
from caffetools.engine.cpu.panels import Panels, panel_height, panel_kernel, panel_start
from caffetools.engine.cpu.prefetch import prefetch
from caffetools.engine.cpu.tiles import ADD, micro_kernel, multiply_tile
from caffetools.engine.cpu.turn import move_block, mover
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
#: Steps of a product with few rows, that many rows of B are read side by side.
THIN_STEPS = 16
#: Tiles that are fetched ahead there: processors follow fewer rows at a time by themselves.
THIN_AHEAD = 2
#: Tiles that a job has at least there, where a thread has so many: rows of B are read in pieces of some length.
THIN_TILES = 8


def gemm(
    trans_a: bool, trans_b: bool, alpha: float, a: np.ndarray, b: np.ndarray, beta: float, c: np.ndarray
) -> None:
    """Compute C = alpha op(A) op(B) + beta C in place.

    a, b, c: C-contiguous 2-D arrays of one type, float32 or float64. op(A) is (m, k), op(B) is (k, n), C is
    (m, n). As in BLAS, C is not read when beta is 0 and the product is not formed when k is 0.
    """
    way = _way(trans_a, trans_b, a.shape, b.shape, c.shape, c.dtype, 1)
    if not way.serial:
        way = _way(trans_a, trans_b, a.shape, b.shape, c.shape, c.dtype, numba.get_num_threads())
    plan, thin, packed_size, strips_size, serial = way
    if plan is None:
        c *= beta
        return
    if strips_size == 0:
        strips, step = b.reshape(-1), 0  # not looked at
    elif serial:
        strips, step = scratch("gemm b", strips_size, c.dtype), 0
    else:
        strips, step = thread_scratch("gemm b", strips_size, c.dtype)
    packed = scratch("gemm a", packed_size, c.dtype) if packed_size else strips
    alone, shared = (_thin_serial, _thin_parallel) if thin else (_multiply_serial, _multiply_parallel)
    run = alone if serial else shared
    run(float(alpha), a, b, float(beta), c, plan, packed, strips, step)


class Way(NamedTuple):
    """How a product is computed.

    plan: what the kernel needs to know, or None where there is nothing to multiply. thin: whether C has few rows.
    packed, strips: elements of A that are packed, and of B that a job packs at most. serial: whether the calling thread
    does it all.
    """

    plan: np.ndarray | None
    thin: bool
    packed: int
    strips: int
    serial: bool


@lru_cache(maxsize=1024)
def _way(trans_a, trans_b, a_shape, b_shape, c_shape, dtype, threads):
    rows, depth = a_shape[::-1] if trans_a else a_shape
    depth_b, columns = b_shape[::-1] if trans_b else b_shape
    if depth != depth_b or c_shape != (rows, columns):
        shapes = f"shapes do not fit: {a_shape}, {b_shape}, {c_shape}"
        check(False, "op(A) (m, k) op(B) (k, n) = C (m, n)", shapes)
    operations = rows * columns * depth
    if operations == 0:
        return Way(None, False, 0, 0, True)
    serial = operations < SERIAL_BELOW
    if not trans_a and not trans_b and rows <= simd.max_rows():
        plan, ends = _thin_plan(rows, columns, depth, threads, dtype)
        return Way(plan, True, 0, ends, serial)
    plan, packs, strips = _plan(rows, columns, depth, trans_a, trans_b, threads, dtype)
    return Way(plan, False, rows * depth if packs else 0, strips, serial)


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


def _thin_plan(rows, columns, depth, threads, dtype):
    """Return an array with (micro-kernel of all rows, columns of a tile, columns of a job, kernel of `move`, lanes) and
    the offsets of the rows; and how many elements of B are copied at its end."""
    lanes = simd.lanes_of(dtype)
    vectors = 4 if rows <= simd.max_rows(4) else 2
    width = vectors * lanes
    tiles = -(-columns // (width * threads))  # of a thread
    jobs = 1 if threads == 1 else max(1, min(JOBS, tiles // THIN_TILES))
    job_width = -(-tiles // jobs) * width
    thin = micro_kernel(dtype, rows, vectors, form="rows"), width, job_width, mover(dtype), lanes
    ends = THIN_STEPS * width if columns % width else 0
    return np.array([*thin, *(np.arange(rows) * depth)], np.int64), ends


@parallel_kernel
def _thin_parallel(alpha, a, b, beta, c, plan, packed, ends, end_step):
    scales = c.dtype.type(alpha), c.dtype.type(beta)
    for job in numba.prange((c.shape[1] + plan[2] - 1) // plan[2]):
        _thin_job(job, scales, a, b, c, plan, ends, numba.get_thread_id() * end_step)


@kernel
def _thin_serial(alpha, a, b, beta, c, plan, packed, ends, end_step):
    scales = c.dtype.type(alpha), c.dtype.type(beta)
    for job in range((c.shape[1] + plan[2] - 1) // plan[2]):
        _thin_job(job, scales, a, b, c, plan, ends, 0)


@kernel
def _thin_job(job, scales, a, b, c, plan, ends, end):
    """Compute some columns of C from a few rows of B after the others, as they lie; scales: (alpha, beta)."""
    alpha, beta = scales
    thin_kernel, width, job_width, mover, lanes = plan[0], plan[1], plan[2], plan[3], plan[4]
    depth, columns = b.shape
    first, last = job * job_width, min((job + 1) * job_width, columns)
    _scale(c, 0, c.shape[0], first, last, beta)
    zero = c.dtype.type(0)
    offsets = simd.at(plan, 5)  # the first of them is 0
    for first_k in range(0, depth, THIN_STEPS):
        steps = min(THIN_STEPS, depth - first_k)
        flags = ADD if first_k > 0 or beta != zero else 0
        for column in range(first, last, width):
            place, step = simd.at(b, first_k * columns + column), columns
            for row in range(steps):
                for j in range(0, width, lanes):
                    prefetch(simd.at(b, (first_k + row) * columns + column + THIN_AHEAD * width + j))
            if column + width > columns:  # vectors would reach beyond the matrix
                here = first_k * columns + column
                move_block(mover, lanes, b, here, columns, ends, end, width, steps, columns - column)
                place, step = simd.at(ends, end), width
            multiply_tile(
                thin_kernel,
                (1, steps, simd.at(a, first_k), offsets, offsets, place, step),
                (simd.at(c, column), columns, simd.at(c, 0), alpha, last - column, flags),
            )
