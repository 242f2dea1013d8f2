"""The inner-product layer's forward product: y = x w^T + bias, and the ReLU that may follow.

The weights are by far the largest operand and each is needed once for every item of the batch, so they are
read where they lie, as the broadcast operand; the batch is the vector operand. The tiles come out transposed
and are turned on their way to y. A batch of a few items would leave most lanes empty: there the inputs are the lanes.
A large batch needs the weights often enough for a plain matrix product, and so does one that would leave more lanes
empty than the outputs do; where it meets few weights, which stay in the cache, each job takes some items and all
weights.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numba
import numpy as np

from caffetools.engine.cpu import simd
from caffetools.engine.cpu.gemm import gemm
from caffetools.engine.cpu.jit import kernel, parallel_kernel
from caffetools.engine.cpu.one_thread import threads_now
from caffetools.engine.cpu.panels import Panels, panel_kernel, panel_start
from caffetools.engine.cpu.tiles import ADD, BIAS, micro_kernel, multiply_tile
from caffetools.engine.cpu.turn import turn, turner
from caffetools.engine.cpu.workspace import scratch, thread_scratch
from caffetools.glog import check

#: Steps of the common axis that are done for a few panels of weights before going on: 64 KiB of a tile of the
#: batch.
K_BLOCK = 512
#: Panels of weights of one job, and tiles of the batch that it multiplies with them while they are in the
#: cache.
PANEL_BLOCK, TILE_BLOCK = 4, 4
#: Forms of a product: rows of x with rows of w; tiles of outputs times items; none, where there is nothing to multiply.
DOTS, TILES, NOTHING = "dots", "tiles", "nothing"
#: Bytes of weights that stay in the second-level cache while the batch goes by.
CACHED_BYTES = 256 << 10
#: Items of a batch that is so small; most outputs that are computed at a time, and how many times one job does so.
MOST_DOTS, DOT_OUTPUTS, DOT_TIMES = 8, 6, 12
#: Bytes of such a batch that go by before the next ones: more than the first-level cache holds, so that pieces of
#: weights are long.
DOT_BYTES = 64 << 10
#: Items and outputs of a plain matrix product. It is one in other cases where that takes so much less, counted in
#: multiplications, of which copying an element of what lies across takes so many.
MANY, LESS, PACK_COST = 256, 0.95, 8
#: Products with fewer multiplications than this stay on the calling thread: waking others costs more. With few items
#: each multiplication waits for a weight, so fewer take as long.
SERIAL_BELOW, SERIAL_DOTS_BELOW = 500_000, 150_000


def inner_product(
    x: np.ndarray, w: np.ndarray, bias: np.ndarray | None, y: np.ndarray, slope: float = 1
) -> None:
    """Compute y = f(x w^T + bias), f(v) = v where v > 0, else slope v.

    x: (batch, inputs), w: (outputs, inputs), bias: (outputs,) or None, y: (batch, outputs); C-contiguous, of
    one type. slope: of a ReLU that follows; 1 for none.
    """
    batch, outputs = y.shape
    if batch > MOST_DOTS and slope == 1 and _is_plain(batch, outputs, y.dtype):
        if bias is not None:
            _spread(bias, y)
        gemm(False, True, 1, x, w, 0 if bias is None else 1, y)
        return
    way = _way(x.shape, w.shape, y.shape, x.dtype)
    if way is None:
        way = _way(x.shape, w.shape, y.shape, x.dtype, threads_now())
    slope = float(slope)
    offset, flags = (way.no_bias, 0) if bias is None else (bias, BIAS)
    if way.form is DOTS:
        run = _dots_serial if way.serial else _dots_parallel
        run(x, w, offset, flags, slope, y, way.plan)
    elif way.form is TILES:
        if way.by_tile:
            packed, distance = thread_scratch("inner product x", way.packed, x.dtype)
        else:
            packed, distance = scratch("inner product x", way.packed, x.dtype), 0
        results, step = thread_scratch("inner product y", way.results, x.dtype)
        run = _multiply_serial if way.serial else _multiply_parallel
        run(x, w, offset, flags, slope, y, way.plan, packed, distance, results, step)
    else:
        y[:] = 0 if bias is None else np.where(bias < 0, bias * slope, bias)


class Way(NamedTuple):
    """How a product is computed that is not a plain one.

    form: DOTS, TILES or NOTHING. serial: whether the calling thread does it all. plan: what the kernel needs to know,
    in one array, since each argument of a compiled function costs time. no_bias: stands in for a bias that is not
    there. by_tile: whether a job takes a tile of items and all outputs. packed, results: elements of the packed batch,
    or a job's part of it, and of a job's results.
    """

    form: str
    serial: bool = True
    plan: np.ndarray | None = None
    no_bias: np.ndarray | None = None
    by_tile: bool = False
    packed: int = 0
    results: int = 0


@lru_cache(maxsize=1024)
def _way(x_shape, w_shape, y_shape, dtype, threads=None):
    """Return the way for operands of these shapes, or None where it takes to know the number of threads: asking for it
    takes as long as a small product."""
    (batch, depth), outputs = x_shape, w_shape[0]
    if w_shape[1] != depth or y_shape != (batch, outputs):
        shapes = f"shapes do not fit: {x_shape}, {w_shape}, {y_shape}"
        check(False, "x (m, k) w (n, k) = y (m, n)", shapes)
    operations, few = batch * outputs * depth, batch <= MOST_DOTS
    if operations == 0:
        return Way(NOTHING)
    little = operations < (SERIAL_DOTS_BELOW if few else SERIAL_BELOW)
    serial = little or 1 in (threads, numba.config.NUMBA_NUM_THREADS)
    if not serial and threads is None:
        return None
    if few:
        return Way(DOTS, serial, *_dot_plan(batch, outputs, depth, dtype, 1 if serial else threads))
    return Way(TILES, serial, *_plan(outputs, batch, depth, dtype))


@lru_cache(maxsize=1024)
def _is_plain(batch, outputs, dtype):
    """Say whether a plain product, whose lanes are outputs and which copies the weights, takes less time than one whose
    lanes are items and which copies these."""
    lanes = simd.lanes_of(dtype)

    def cost(across, along):
        width = 2 * lanes if across > lanes else lanes
        return -(-across // width) * width * along + PACK_COST * across

    return min(batch, outputs) >= MANY or cost(outputs, batch) < LESS * cost(batch, outputs)


def _dot_plan(batch, outputs, depth, dtype, threads):
    """Return an array with (how many rows of w are multiplied at a time, how many times a job has so many, steps of a
    block, the micro-kernel, the one for the last rows) and the offsets of the rows; and a stand-in for a bias."""
    count = min(DOT_OUTPUTS, max(1, 2 * simd.max_rows() // batch), outputs)
    steps = min(depth, DOT_BYTES // (batch * dtype.itemsize))
    last = micro_kernel(dtype, batch, outputs % count or count, form="dots")
    times = DOT_TIMES if threads <= 2 else max(1, min(DOT_TIMES, -(-outputs // (count * threads))))
    plan = count, times, steps, micro_kernel(dtype, batch, count, form="dots"), last, *(np.arange(count) * depth)
    return np.array(plan, np.int64), np.empty(1, dtype)


def _plan(outputs, batch, depth, dtype):
    """Return an array with the panels of w, (lanes, items of a tile, tiles, whether a job takes a tile and all panels,
    and not some panels and all tiles), the kernel of `turn` and the offsets of a panel's rows; a stand-in for a bias;
    whether a job takes a tile; and the sizes of the packed batch, or a job's part of it, and of a job's results."""
    lanes = simd.lanes_of(dtype)
    vectors = 2 if batch > lanes else 1
    panels = Panels.cut(outputs)
    width = vectors * lanes
    tiles = -(-batch // width)
    cached = depth <= K_BLOCK and outputs * depth * dtype.itemsize <= CACHED_BYTES
    by_tile = cached and batch * outputs * depth >= SERIAL_BELOW and tiles * PANEL_BLOCK >= panels.count
    cut = *panels.with_kernels(dtype, vectors, form="rows"), lanes, width, tiles, by_tile, turner(dtype)
    plan = np.array([*cut, *(np.arange(panels.tall) * depth)], np.int64)
    packed = (1 if by_tile else tiles) * width * depth
    return plan, np.empty(1, dtype), by_tile, packed, PANEL_BLOCK * TILE_BLOCK * panels.tall * width


@kernel
def _spread(bias, y):
    for n in range(y.shape[0]):
        for m in range(min(y.shape[1], bias.size)):
            y[n, m] = bias[m]


@kernel
def _parts_of_plan(plan):
    """Return the parts of the array that `_plan` makes."""
    panels, tiling = (plan[0], plan[1], plan[2], plan[3], plan[4]), (plan[5], plan[6], plan[7], plan[8])
    return panels, tiling, plan[9], plan[10:]


@parallel_kernel
def _multiply_parallel(x, w, bias, flags, slope, y, plan, packed, distance, results, step):
    panels, tiling, turner, _ = _parts_of_plan(plan)
    factor = y.dtype.type(slope)
    for tile in numba.prange(0 if tiling[3] else tiling[2]):
        _pack_batch(turner, x, tile, tiling, packed, tile * tiling[1] * x.shape[1])
    for job in numba.prange(_job_count(panels, tiling)):
        thread = numba.get_thread_id()
        places = thread * distance, thread * step
        _multiply_job(job, x, w, bias, flags, factor, y, plan, packed, results, places)


@kernel
def _multiply_serial(x, w, bias, flags, slope, y, plan, packed, distance, results, step):
    panels, tiling, turner, _ = _parts_of_plan(plan)
    factor = y.dtype.type(slope)
    for tile in range(0 if tiling[3] else tiling[2]):
        _pack_batch(turner, x, tile, tiling, packed, tile * tiling[1] * x.shape[1])
    for job in range(_job_count(panels, tiling)):
        _multiply_job(job, x, w, bias, flags, factor, y, plan, packed, results, (0, 0))


@kernel
def _job_count(panels, tiling):
    return tiling[2] if tiling[3] else (panels[0] + PANEL_BLOCK - 1) // PANEL_BLOCK


@kernel
def _multiply_job(job, x, w, bias, flags, slope, y, plan, packed, results, places):
    """Multiply some panels of w with the whole batch, or all with a tile of it.

    places: where the thread's packed items and its results begin.
    """
    panels, tiling, turner, row_offsets = _parts_of_plan(plan)
    job_panels, job_tiles = (job * PANEL_BLOCK, min((job + 1) * PANEL_BLOCK, panels[0])), (0, tiling[2])
    if tiling[3]:
        job_panels, job_tiles = (0, panels[0]), (job, job + 1)
        _pack_batch(turner, x, job, tiling, packed, places[0])
    for first_panel in range(job_panels[0], job_panels[1], PANEL_BLOCK):
        panel_range = first_panel, min(first_panel + PANEL_BLOCK, job_panels[1])
        for first_tile in range(job_tiles[0], job_tiles[1], TILE_BLOCK):
            tile_range = first_tile, min(first_tile + TILE_BLOCK, job_tiles[1])
            here = places[0] + (first_tile - job_tiles[0]) * tiling[1] * x.shape[1]
            _multiply_block(
                w, bias, flags, panels, panel_range, row_offsets, tiling, tile_range, packed, here, results, places[1]
            )
            _turn_block(turner, results, places[1], panels, panel_range, tiling, tile_range, slope, y)


@parallel_kernel
def _dots_parallel(x, w, bias, flags, slope, y, plan):
    size, factor = plan[0] * plan[1], y.dtype.type(slope)
    for job in numba.prange((w.shape[0] + size - 1) // size):
        _dots_job(job * size, x, w, bias, flags, factor, y, plan)


@kernel
def _dots_serial(x, w, bias, flags, slope, y, plan):
    size, factor = plan[0] * plan[1], y.dtype.type(slope)
    for job in range((w.shape[0] + size - 1) // size):
        _dots_job(job * size, x, w, bias, flags, factor, y, plan)


@kernel
def _rectify(values, slope):
    zero = values.dtype.type(0)
    for i in range(values.size):
        values[i] = slope * values[i] if values[i] < zero else values[i]


@kernel
def _dots_job(first, x, w, bias, flags, slope, y, plan):
    """Multiply a few items with some weights, which are read once, in order."""
    outputs, depth = w.shape
    count, times, most_steps, dot_kernel, last_kernel = plan[0], plan[1], plan[2], plan[3], plan[4]
    for first_k in range(0, depth, most_steps):
        steps = min(most_steps, depth - first_k)
        for row in range(first, min(first + count * times, outputs), count):
            operands = simd.at(x, first_k), depth, simd.at(w, row * depth + first_k), simd.at(plan, 5)
            multiply_tile(
                dot_kernel if row + count <= outputs else last_kernel,
                (steps, *operands),
                (simd.at(y, row), outputs, simd.at(bias, row), x.dtype.type(1), count, flags if first_k == 0 else ADD),
            )
    if slope != y.dtype.type(1):
        for n in range(y.shape[0]):
            _rectify(y[n, first : first + count * times], slope)


@kernel
def _pack_batch(turner, x, tile, tiling, packed, place):
    """Copy the rows of x that a tile holds to [k][row], zero beyond the batch."""
    batch, depth = x.shape
    lanes, tile_width = tiling[:2]
    for j in range(0, tile_width, lanes):
        n = tile * tile_width + j
        source = simd.at(x, min(n, batch - 1) * depth)
        turn(
            turner,
            (source, depth, max(0, min(lanes, batch - n)), depth),
            (simd.at(packed, place + j), tile_width, lanes),
        )


@kernel
def _multiply_block(
    w, bias, flags, panels, panel_range, row_offsets, tiling, tile_range, packed, packed_place, results, place
):
    """Compute results[tile][row][batch item] for some panels of w and some tiles of the batch, which are packed from
    `packed_place` on."""
    depth, tile_width = w.shape[1], tiling[1]
    first, last = panel_start(panels, panel_range[0]), panel_start(panels, panel_range[1])
    for first_k in range(0, depth, K_BLOCK):
        steps = min(K_BLOCK, depth - first_k)
        for panel in range(*panel_range):
            start = panel_start(panels, panel)
            for tile in range(*tile_range):
                a = simd.at(w, start * depth + first_k), simd.at(row_offsets, 0), simd.at(row_offsets, 0)
                b = simd.at(packed, packed_place + ((tile - tile_range[0]) * depth + first_k) * tile_width)
                c = place + ((tile - tile_range[0]) * (last - first) + start - first) * tile_width
                multiply_tile(
                    panel_kernel(panels, panel),
                    (1, steps, a[0], a[1], a[2], b, tile_width),
                    (simd.at(results, c), tile_width, simd.at(bias, start), w.dtype.type(1), tile_width,
                     flags if first_k == 0 else ADD),
                )  # fmt: skip


@kernel
def _turn_block(turner, results, place, panels, panel_range, tiling, tile_range, slope, y):
    """Copy f(results[tile][row][batch item]) to y[batch item][row]."""
    batch, outputs = y.shape
    lanes, tile_width = tiling[:2]
    first, last = panel_start(panels, panel_range[0]), panel_start(panels, panel_range[1])
    if slope != y.dtype.type(1):
        _rectify(results[place : place + (tile_range[1] - tile_range[0]) * (last - first) * tile_width], slope)
    for tile in range(*tile_range):
        item = tile * tile_width
        for row in range(first, last, lanes):
            rows = min(lanes, last - row)
            source = simd.at(results, place + ((tile - tile_range[0]) * (last - first) + row - first) * tile_width)
            target = simd.at(y, item * outputs + row), outputs, rows
            turn(turner, (source, tile_width, rows, min(tile_width, batch - item)), target)
