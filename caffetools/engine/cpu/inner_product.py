"""The inner-product layer's forward product: y = x w^T + bias, and the ReLU that may follow.

The weights are by far the largest operand and each is needed once for every item of the batch, so they are
read where they lie, as the broadcast operand; the batch is the vector operand. The tiles come out transposed
and are turned on their way to y.
"""

from __future__ import annotations

from functools import lru_cache

import numba
import numpy as np

from caffetools.engine.cpu import simd
from caffetools.engine.cpu.jit import kernel, parallel_kernel
from caffetools.engine.cpu.panels import Panels, panel_height, panel_kernel, panel_start
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
#: A batch of so few items would leave most lanes empty: the inputs become the lanes, for so many outputs at a
#: time.
MOST_DOTS, DOT_OUTPUTS = 3, 4


def inner_product(
    x: np.ndarray, w: np.ndarray, bias: np.ndarray | None, y: np.ndarray, slope: float = 1
) -> None:
    """Compute y = f(x w^T + bias), f(v) = v where v > 0, else slope v.

    x: (batch, inputs), w: (outputs, inputs), bias: (outputs,) or None, y: (batch, outputs); C-contiguous, of
    one type. slope: of a ReLU that follows; 1 for none.
    """
    batch, depth = x.shape
    outputs = w.shape[0]
    if w.shape[1] != depth or y.shape != (batch, outputs):
        shapes = f"shapes do not fit: {x.shape}, {w.shape}, {y.shape}"
        check(False, "x (m, k) w (n, k) = y (m, n)", shapes)
    if batch == 0 or outputs == 0:
        return
    flags, slope = 0 if bias is None else BIAS, x.dtype.type(slope)
    if batch <= MOST_DOTS:
        kernel_address = micro_kernel(x.dtype, batch, DOT_OUTPUTS, form="dots")
        last = micro_kernel(x.dtype, batch, outputs % DOT_OUTPUTS or DOT_OUTPUTS, form="dots")
        _dots(x, w, w[0] if bias is None else bias, flags, slope, y, _dot_rows(depth), kernel_address, last)
        return
    panels, row_offsets, tiling = _plan(outputs, batch, depth, x.dtype)
    _, tile_width, tiles = tiling
    packed = scratch("inner product x", tiles * tile_width * depth, x.dtype)
    job_size = PANEL_BLOCK * TILE_BLOCK * panels[1] * tile_width
    results = thread_scratch("inner product y", job_size, x.dtype)
    _multiply(
        x,
        w,
        packed if bias is None else bias,
        flags,
        slope,
        y,
        panels,
        row_offsets,
        tiling,
        packed,
        results,
        turner(x.dtype),
    )


@lru_cache(maxsize=1024)
def _dot_rows(depth):
    """Return where the rows of w begin that are multiplied at a time."""
    return np.arange(DOT_OUTPUTS) * depth


@lru_cache(maxsize=1024)
def _plan(outputs, batch, depth, dtype):
    """Return the panels of w, the offsets of a panel's rows, and (lanes, items of a tile, tiles)."""
    lanes = simd.lanes_of(dtype)
    vectors = 2 if batch > lanes else 1
    panels = Panels.cut(outputs)
    tiling = lanes, vectors * lanes, -(-batch // (vectors * lanes))
    return panels.with_kernels(dtype, vectors, form="rows"), np.arange(panels.tall) * depth, tiling


@parallel_kernel
def _multiply(x, w, bias, flags, slope, y, panels, row_offsets, tiling, packed, results, turner):
    tiles = tiling[2]
    for tile in numba.prange(tiles):
        _pack_batch(turner, x, tile, tiling, packed)
    for job in numba.prange((panels[0] + PANEL_BLOCK - 1) // PANEL_BLOCK):
        place = numba.get_thread_id() * results[1]
        panel_range = job * PANEL_BLOCK, min((job + 1) * PANEL_BLOCK, panels[0])
        for first_tile in range(0, tiles, TILE_BLOCK):
            tile_range = first_tile, min(first_tile + TILE_BLOCK, tiles)
            _multiply_block(
                w, bias, flags, panels, panel_range, row_offsets, tiling, tile_range, packed,
                results[0], place,
            )  # fmt: skip
            _turn_block(results[0], place, panels, panel_range, tiling, tile_range, slope, y)


@parallel_kernel
def _dots(x, w, bias, flags, slope, y, w_rows, kernel_address, last_kernel):
    """Multiply a few items with all weights, which are read once, in order."""
    outputs, depth = w.shape
    tiles = (outputs + DOT_OUTPUTS - 1) // DOT_OUTPUTS
    for tile in numba.prange(tiles):
        first = tile * DOT_OUTPUTS
        multiply_tile(
            last_kernel if tile == tiles - 1 else kernel_address,
            (1, depth, simd.at(x, 0), depth, 0, simd.at(w, first * depth), simd.at(w_rows, 0), 0),
            (simd.at(y, first), outputs, simd.at(bias, first), x.dtype.type(1), DOT_OUTPUTS, flags),
        )
        for n in range(y.shape[0]):
            for m in range(first, min(first + DOT_OUTPUTS, outputs)):
                y[n, m] = _rectified(y[n, m], slope)


@kernel
def _rectified(value, slope):
    return slope * value if value < 0 else value


@kernel
def _pack_batch(turner, x, tile, tiling, packed):
    """Copy the rows of x that a tile holds to [k][row], zero beyond the batch."""
    batch, depth = x.shape
    lanes, tile_width, _ = tiling
    for j in range(0, tile_width, lanes):
        n, place = tile * tile_width + j, tile * tile_width * depth + j
        source = simd.at(x, min(n, batch - 1) * depth)
        turn(
            turner,
            (source, depth, max(0, min(lanes, batch - n)), depth),
            (simd.at(packed, place), tile_width, lanes),
        )


@kernel
def _result_place(place, panels, panel_index, tile_index, tile_width):
    """Return where [row][item] of a tile lies among a job's results."""
    return place + (panel_index * TILE_BLOCK + tile_index) * panels[1] * tile_width


@kernel
def _multiply_block(
    w, bias, flags, panels, panel_range, row_offsets, tiling, tile_range, packed, results, place
):
    """Compute results[panel][tile][row][batch item] for some panels of w and some tiles of the batch."""
    depth, tile_width = w.shape[1], tiling[1]
    for first_k in range(0, depth, K_BLOCK):
        steps = min(K_BLOCK, depth - first_k)
        for panel in range(*panel_range):
            start = panel_start(panels, panel)
            for tile in range(*tile_range):
                a = simd.at(w, start * depth + first_k), simd.at(row_offsets, 0), simd.at(row_offsets, 0)
                b = simd.at(packed, (tile * depth + first_k) * tile_width)
                c = _result_place(place, panels, panel - panel_range[0], tile - tile_range[0], tile_width)
                multiply_tile(
                    panel_kernel(panels, panel),
                    (1, steps, a[0], a[1], a[2], b, tile_width),
                    (simd.at(results, c), tile_width, simd.at(bias, start), w.dtype.type(1), tile_width,
                     flags if first_k == 0 else ADD),
                )  # fmt: skip


@kernel
def _turn_block(results, place, panels, panel_range, tiling, tile_range, slope, y):
    """Copy results[panel][tile][row][batch item] to y[batch item][row]."""
    tile_width = tiling[1]
    for tile in range(*tile_range):
        for j in range(min(tile_width, y.shape[0] - tile * tile_width)):
            row = y[tile * tile_width + j]
            for panel in range(*panel_range):
                start = panel_start(panels, panel)
                c = _result_place(place, panels, panel - panel_range[0], tile - tile_range[0], tile_width)
                for r in range(panel_height(panels, panel)):
                    row[start + r] = _rectified(results[c + r * tile_width + j], slope)
