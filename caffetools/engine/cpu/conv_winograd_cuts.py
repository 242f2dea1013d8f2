"""How the products of Winograd's convolution are cut into jobs.

A job multiplies the transformed pixels of some tiles with a strip of output channels. It transforms the strip's filters
for itself, which then lie in a near cache, so that jobs of the same strip cost more together than one. One and two
threads get blocks of as many tiles as leave their results in an outer cache. More threads get the cut that is expected
to take them least time: jobs of fewer tiles, of fewer output channels, or of a part of the common axis. Such parts are
the blocks that are summed apart in any case, so that the results are the same bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np

from caffetools.engine.cpu.panels import Panels
from caffetools.engine.cpu.winograd import EDGE

POINTS = EDGE * EDGE
#: Transformed images that are made before they are used, for up to `GROUP_THREADS` threads; more bring more caches.
GROUP_BYTES, GROUP_THREADS = 8 << 20, 4
#: Tiles that are multiplied with a job's filters before the next: their results stay in an outer cache.
BLOCK_TILES = 64
#: Jobs that a call is cut into for a few threads where its size allows.
JOBS = 32
#: Steps of the common axis that are summed before they are added to others: their filters stay in the first-level
#: cache, and short sums lose less: the transforms enlarge the errors of long ones.
K_BLOCK = 128
#: Vectors of channels that are filtered at a time.
VECTORS = 2
#: What it costs to transform the six pixels by six of a tile, the results of one, and a filter, in multiplications.
IMAGE_COST, RESULT_COST, FILTER_COST = 800, 500, 300
#: Likewise what it costs to read a transformed pixel, a transformed filter, and a sum that another thread has made;
#: what a panel costs besides its products, in rows; the fewest vectors that keep the multipliers busy; the tiles that
#: double the cost of results; and what entering one more loop on all threads costs.
PIXEL_COST, READ_COST, SUM_COST, PANEL_COST, FEWEST_VECTORS, MANY_TILES, LOOP_COST = 6, 100, 4, 2, 8, 64, 300_000
#: Another cut than that for a few threads has to be expected to take less than this share of its time.
WORTHWHILE = 0.8


@dataclass(frozen=True)
class Work:
    """What is cut.

    rows, depth: channels of y and x in a group. strip: channels of y in one strip of the packed filters. all_rows: tile
    rows of all images. pitch: distance of two tiles of transformed images. itemsize: bytes of an element.
    """

    groups: int
    rows: int
    depth: int
    lanes: int
    strip: int
    all_rows: int
    tile_columns: int
    pitch: int
    itemsize: int


@dataclass(frozen=True)
class Cut:
    """One way to cut it.

    vectors: of output channels in a job. block_rows: tile rows of a block. group_blocks: blocks whose images are
    transformed together. parts: what they are dealt to. depth_parts: parts of the common axis, 1 or as many as it has
    blocks of K_BLOCK.
    """

    work: Work
    vectors: int
    block_rows: int
    group_blocks: int
    parts: int
    depth_parts: int

    @cached_property
    def strip(self) -> int:
        """Output channels of a job."""
        return self.vectors * self.work.lanes

    @cached_property
    def strips(self) -> int:
        return -(-self.work.rows // self.strip)

    @cached_property
    def tiles(self) -> int:
        """Tiles of a block."""
        return self.block_rows * self.work.tile_columns

    @cached_property
    def panels(self) -> Panels:
        """Tiles of a block, as the products take them."""
        return Panels.cut(self.tiles, self.vectors)

    @cached_property
    def tile_places(self) -> np.ndarray:
        """Where the tiles of a panel lie in the transformed images."""
        return np.arange(self.panels.tall) * self.work.pitch

    def time(self, threads: int, transformed: bool) -> float:
        """Return how long so many threads are expected to take, in multiplications of one of them."""
        work = self.work
        blocks = -(-work.all_rows // self.block_rows)
        strips, depth = work.groups * self.strips, work.depth / self.depth_parts
        job = (READ_COST if transformed else FILTER_COST) * depth * self.strip
        panels = self.panels
        rows = panels.count * (max(panels.tall, FEWEST_VECTORS / self.vectors) + PANEL_COST)
        results = RESULT_COST * self.tiles * self.strip * (1 + self.tiles / MANY_TILES)
        block = POINTS * depth * (rows * self.strip + PIXEL_COST * self.tiles)
        block += results if self.depth_parts == 1 else POINTS * SUM_COST * self.tiles * self.strip
        # A thread's jobs are neighbours: together they have as many blocks as so many parts of all.
        jobs = _shares(strips * self.depth_parts * self.parts, threads)
        whole = jobs * job + -(-jobs * self.group_blocks // self.parts) * block + LOOP_COST
        if self.depth_parts > 1:
            sums = POINTS * SUM_COST * self.depth_parts * self.tiles * self.strip
            lines = self.group_blocks * self.block_rows
            whole += _shares(strips * lines, threads) * (results + sums) / self.block_rows + LOOP_COST
        return -(-blocks // self.group_blocks) * whole


def _shares(jobs: int, threads: int) -> int:
    """Return the jobs of the thread that has most of them."""
    return -(-jobs // threads)


def cut_for(work: Work, threads: int, transformed: bool) -> Cut:
    """Return how work is cut for so many threads. transformed: whether filters are packed already."""
    vectors = work.strip // work.lanes
    most_rows = min(work.all_rows, max(1, BLOCK_TILES // work.tile_columns))
    plain = _with_blocks(work, threads, vectors, most_rows, 1)
    if threads <= 2:
        return plain
    depths = sorted({1, -(-work.depth // K_BLOCK)})
    found = [plain]
    for v, block_rows, depth_parts in product(range(vectors, 0, -1), range(most_rows, 0, -1), depths):
        cut = _with_blocks(work, threads, v, block_rows, depth_parts)
        found += [Cut(work, v, block_rows, cut.group_blocks, parts, depth_parts)
                  for parts in _useful_parts(cut.group_blocks)]  # fmt: skip
    best = min(found, key=lambda cut: (cut.time(threads, transformed), cut.tiles))
    worthwhile = best.time(threads, transformed) < WORTHWHILE * plain.time(threads, transformed)
    return best if worthwhile else plain


def _with_blocks(work, threads, vectors, block_rows, depth_parts):
    """Return a cut with blocks of so many tile rows."""
    blocks = -(-work.all_rows // block_rows)
    row_bytes = POINTS * work.tile_columns * work.pitch * work.itemsize
    most_bytes = GROUP_BYTES * max(1, threads // GROUP_THREADS)
    group_blocks = min(blocks, max(1, most_bytes // (row_bytes * block_rows)))
    group_blocks = -(-blocks // -(-blocks // group_blocks))
    strips = work.groups * -(-work.rows // (vectors * work.lanes))
    parts = min(group_blocks, max(1, JOBS // strips))
    return Cut(work, vectors, block_rows, group_blocks, parts, depth_parts)


def _useful_parts(blocks):
    """Return the numbers of parts that leave fewer blocks to the largest part than a smaller number does."""
    return sorted({-(-blocks // size) for size in range(1, blocks + 1)})
