"""An exponential moving average of the weights, which often tests better than the weights themselves.

    average = d average + (1 - d) weights        after every update, with d = min(ema_decay, (1 + t) / (10 + t))

t = 0, 1, ... counts the updates that were made before. The smaller d of the first ones lets the initial weights fade,
so that the average is of use long before 1 / (1 - ema_decay) iterations. It starts as a copy of the weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numba
import numpy as np

from caffetools.engine.cpu.jit import parallel_kernel
from caffetools.net import Net

_CHUNK = 1 << 16  # elements that are exchanged at a time


@parallel_kernel
def blend(average, w, blocks, keep):
    """Move the average towards the weights, block by block: keep is d."""
    one = w.dtype.type(1)
    for b in numba.prange(blocks.shape[0]):
        for i in range(blocks[b, 0], blocks[b, 1]):
            average[i] = keep * average[i] + (one - keep) * w[i]


class WeightAverage:
    """The average of the parameters of `net`.

    decay: between 0 and 1. blocks: the table that cuts the parameters into pieces (see `rules.block_table`).

    On a GPU the average lies there, and training moves nothing.
    """

    def __init__(self, net: Net, decay: float, blocks: np.ndarray):
        self.decay = decay
        if net.context.engine is None:
            self._kept = HostAverage(net, blocks)
        else:
            from caffetools.solver.average_cu import DeviceAverage

            self._kept = DeviceAverage(net)
        self._exchanged = False

    @property
    def values(self) -> np.ndarray | None:
        """The average on the host, laid out as `net.param_data`; None until training starts."""
        return self._kept.values

    @values.setter
    def values(self, values: np.ndarray | None) -> None:
        self._kept.values = values

    def start(self) -> None:
        """Begin with the present weights, unless there is an average already."""
        if not self._kept.begun:
            self._kept.begin()

    def update(self, updates: int) -> None:
        """Take the weights in after an update; updates: how many were made before it."""
        self._kept.blend(min(self.decay, (1 + updates) / (10 + updates)))

    @contextmanager
    def shown(self, averaged: bool) -> Iterator[None]:
        """Let the net have the averaged weights (or, for False, the weights themselves) in the body."""
        if averaged == self._exchanged or not self._kept.begun:
            yield
            return
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def _exchange(self):
        self._kept.exchange()
        self._exchanged = not self._exchanged


class HostAverage:
    """Where an average is kept on the CPU. blocks: as for `WeightAverage`."""

    def __init__(self, net: Net, blocks: np.ndarray):
        self.net = net
        self.blocks = blocks
        self.values: np.ndarray | None = None

    @property
    def begun(self) -> bool:
        return self.values is not None

    def begin(self) -> None:
        """Take over the weights."""
        self.values = self.net.flat_data.read_host().copy()

    def blend(self, keep: float) -> None:
        """Move the average towards the weights: keep is d."""
        blend(self.values, self.net.flat_data.read_host(), self.blocks, self.values.dtype.type(keep))

    def exchange(self) -> None:
        """Let the net have the average, and keep its weights."""
        mine, theirs = self.values, self.net.param_data
        for start in range(0, mine.size, _CHUNK):
            piece = slice(start, start + _CHUNK)
            kept = mine[piece].copy()
            mine[piece] = theirs[piece]
            theirs[piece] = kept
