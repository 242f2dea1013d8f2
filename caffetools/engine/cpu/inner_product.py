"""The inner-product layer's forward product: y = x w^T + bias.

The weights are by far the largest operand and each is needed once for every item of the batch, so they are read where they
lie, as the broadcast operand; the batch is the vector operand. The tiles come out transposed and are turned on their way to y.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numba
import numpy as np

from caffetools.engine.cpu import simd
from caffetools.engine.cpu.jit import kernel, parallel_kernel
from caffetools.engine.cpu.panels import Panels, panel_height, panel_start
from caffetools.engine.cpu.workspace import scratch
from caffetools.glog import check

#: Steps of the common axis that are done for a few strips of weights before going on: 2 x 64 KiB of packed batch at most.
K_BLOCK = 512
#: Strips of weights of one job.
PANEL_BLOCK = 4
#: Tiles of the batch that are multiplied with a block of weights while it is in the cache.
TILE_BLOCK = 4


def inner_product(x: np.ndarray, w: np.ndarray, bias: np.ndarray | None, y: np.ndarray) -> None:
    """Compute y = x w^T + bias.

    x: (batch, inputs), w: (outputs, inputs), bias: (outputs,) or None, y: (batch, outputs); C-contiguous, of one type.
    """
    batch, depth = x.shape
    outputs = w.shape[0]
    if w.shape[1] != depth or y.shape != (batch, outputs):
        check(False, "x (m, k) w (n, k) y (m, n)", f"shapes do not fit: {x.shape}, {w.shape}, {y.shape}")
    if batch == 0 or outputs == 0:
        return
    plan = _plan(outputs, batch, depth, x.dtype)
    packed = scratch("inner product x", plan.tiles * plan.tile_width * depth, x.dtype)
    results = scratch("inner product y", numba.config.NUMBA_NUM_THREADS * plan.job_size, x.dtype)
    panels = plan.panels
    _multiply(
        x, w, packed if bias is None else bias, 0 if bias is None else simd.BIAS, y, panels.count, panels.tall, panels.tall_count,
        plan.kernels, plan.row_offsets, plan.tiles, plan.tile_width, packed, results, plan.job_size,
    )  # fmt: skip


@dataclass(frozen=True)
class _Plan:
    """How a product of one shape is cut. job_size: elements of one job's results."""

    panels: Panels
    kernels: np.ndarray
    row_offsets: np.ndarray
    tiles: int
    tile_width: int
    job_size: int


@lru_cache(maxsize=256)
def _plan(outputs, batch, depth, dtype):
    lanes = simd.lanes_of(dtype)
    vectors = 2 if batch > lanes else 1
    panels = Panels.cut(outputs, simd.max_rows())
    tiles = -(-batch // (vectors * lanes))
    job_size = PANEL_BLOCK * TILE_BLOCK * panels.tall * vectors * lanes
    row_offsets = np.arange(panels.tall) * depth
    return _Plan(
        panels, panels.kernels(dtype, vectors, a="rows"), row_offsets, tiles, vectors * lanes, job_size
    )


@parallel_kernel
def _multiply(
    x,
    w,
    bias,
    flags,
    y,
    panel_count,
    tall,
    tall_count,
    kernels,
    row_offsets,
    tiles,
    tile_width,
    packed,
    results,
    job_size,
):
    for tile in numba.prange(tiles):
        _pack_batch(x, tile, tile_width, packed)
    for job in numba.prange((panel_count + PANEL_BLOCK - 1) // PANEL_BLOCK):
        at = numba.get_thread_id() * job_size
        last_panel = min((job + 1) * PANEL_BLOCK, panel_count)
        for first_tile in range(0, tiles, TILE_BLOCK):
            last_tile = min(first_tile + TILE_BLOCK, tiles)
            _multiply_block(
                w, bias, flags, job * PANEL_BLOCK, last_panel, tall, tall_count, kernels, row_offsets, first_tile, last_tile, tile_width,
                packed, results, at,
            )  # fmt: skip
            _turn_block(
                results,
                at,
                job * PANEL_BLOCK,
                last_panel,
                tall,
                tall_count,
                first_tile,
                last_tile,
                tile_width,
                y,
            )


@kernel
def _pack_batch(x, tile, tile_width, packed):
    """Copy `tile_width` rows of x to [k][row], zero beyond the batch."""
    batch, depth = x.shape
    base = tile * tile_width * depth
    zero = x.dtype.type(0)
    for j in range(tile_width):
        n = tile * tile_width + j
        if n < batch:
            for k in range(depth):
                packed[base + k * tile_width + j] = x[n, k]
        else:
            for k in range(depth):
                packed[base + k * tile_width + j] = zero


@kernel
def _multiply_block(
    w,
    bias,
    flags,
    first_panel,
    last_panel,
    tall,
    tall_count,
    kernels,
    row_offsets,
    first_tile,
    last_tile,
    tile_width,
    packed,
    results,
    at,
):
    """Compute results[panel][tile][row][batch item] for some strips of w and some tiles of the batch."""
    depth = w.shape[1]
    for first_k in range(0, depth, K_BLOCK):
        for panel in range(first_panel, last_panel):
            start = panel_start(panel, tall, tall_count)
            for tile in range(first_tile, last_tile):
                place = at + ((panel - first_panel) * TILE_BLOCK + tile - first_tile) * tall * tile_width
                simd.multiply_tile(
                    kernels[0] if panel < tall_count else kernels[1], 1, min(K_BLOCK, depth - first_k),
                    simd.at(w, start * depth + first_k), simd.at(row_offsets, 0), simd.at(row_offsets, 0), 0,
                    simd.at(packed, (tile * depth + first_k) * tile_width), simd.at(row_offsets, 0), tile_width,
                    simd.at(row_offsets, 0), 0, simd.at(results, place), tile_width, simd.at(bias, start), w.dtype.type(1), tile_width,
                    flags if first_k == 0 else simd.ADD,
                )  # fmt: skip


@kernel
def _turn_block(results, at, first_panel, last_panel, tall, tall_count, first_tile, last_tile, tile_width, y):
    """Copy results[panel][tile][row][batch item] to y[batch item][row]."""
    for tile in range(first_tile, last_tile):
        for j in range(min(tile_width, y.shape[0] - tile * tile_width)):
            row = y[tile * tile_width + j]
            for panel in range(first_panel, last_panel):
                start = panel_start(panel, tall, tall_count)
                place = at + ((panel - first_panel) * TILE_BLOCK + tile - first_tile) * tall * tile_width + j
                for r in range(panel_height(panel, tall, tall_count)):
                    row[start + r] = results[place + r * tile_width]
