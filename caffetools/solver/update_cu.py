"""The update of a net on the GPU: gradients, history and weights never leave the device."""

from __future__ import annotations

from math import isfinite

import numpy as np

from caffetools.engine.gpu.lag import Lagged
from caffetools.engine.gpu.launch import THREADS, launch, launch_blocks
from caffetools.engine.gpu.memory import device_array, to_device
from caffetools.engine.gpu.vector import fill
from caffetools.engine.out_of_memory import OutOfMemory
from caffetools.glog import info
from caffetools.net import Net, device_memory
from caffetools.solver import rules_cu
from caffetools.solver.loss_scale_cu import LossScale
from caffetools.solver.precision import LossScaling
from caffetools.solver.rules import Rule


class DeviceUpdate:
    """What an update needs on the device.

    net: on a GPU. rule: by which parameters change. table: see `rules.block_table`. rate_mults, decays:
    by parameter. limit: of the gradients' norm, negative for none. passes: whose gradients are summed (`iter_size`).
    scaling: of the loss, or None.

    `gradient_norm` is the last norm that has reached the host. `loss_scale`: what scales the loss, or None. lag: how
    many losses may be on their way when the next pass starts.
    """

    lag = 2

    def __init__(
        self,
        net: Net,
        rule: Rule,
        table: np.ndarray,
        rate_mults: np.ndarray,
        decays: np.ndarray,
        limit: float,
        passes: int,
        scaling: LossScaling | None = None,
    ):
        self.net, self.limit, self.passes, self.histories = net, limit, passes, rule.histories
        self._kernel = rules_cu.KERNELS[rule.kernel.__name__]
        engine, dtype = net.context.engine, net.context.dtype
        self._rows = len(table)
        self._table = to_device(engine, table)
        self._rate_mults, self._decays = to_device(engine, rate_mults), to_device(engine, decays)
        self._history = engine.storage(dtype)
        self._history_size = rule.histories * net.flat_data.size
        self._squares = device_array(engine, self._rows, np.float64)
        self._norm = device_array(engine, 1, np.float64)
        self._scale = device_array(engine, 1, dtype)
        launch(fill, 1, dtype.type(1 / passes), self._scale)
        self._lagged = Lagged(engine, self._norm, self._look)
        self.gradient_norm = 0.0
        self.loss_scale = None if scaling is None else LossScale(net, scaling)
        self._measured = False

    def backward(self) -> None:
        """Run the net's backward pass."""
        (self.net if self.loss_scale is None else self.loss_scale).backward()

    def history(self) -> np.ndarray:
        """Return the history on the host for reading and writing, (histories, size of the flat buffer)."""
        host = self._history.at_least(self._history_size)
        return host[: self._history_size].reshape(self.histories, -1)

    def measure(self, now: bool) -> None:
        """Compute the norm of the gradients and what clips it. now: wait until `gradient_norm` is that of this step."""
        gradients = self.net.flat_diff.read_device()
        launch_blocks(rules_cu.squares_of_blocks, self._rows, THREADS, gradients, self._table, self._squares)
        if self.loss_scale is not None:
            self.loss_scale.judge(self._squares, self.limit, self.passes, self._norm, self._scale)
        else:
            numbers = np.float64(self.limit), np.float64(self.passes)
            launch_blocks(rules_cu.clip, 1, THREADS, self._squares, *numbers, self._norm, self._scale)
        self._measured = True
        self._lagged.send()
        if now:
            self._lagged.flush()

    def apply(self, rate: float, l1: bool, decoupled: bool, hyper: tuple[float, ...]) -> None:
        """Take the step of the rule; the diffs hold it afterwards."""
        net = self.net
        scalar = net.context.dtype.type
        if self.loss_scale is not None and not self._measured:
            # Without scaling that is needed for clipping only.
            self.measure(now=False)
        self._measured = False
        try:
            history = self._history.write_device(self._history_size)
        except OutOfMemory as err:
            raise device_memory.explained_for(net, "the solver's history", err) from None
        launch_blocks(
            self._kernel,
            self._rows,
            THREADS,
            net.flat_data.write_device(),
            net.flat_diff.write_device(),
            history,
            self._table,
            self._scale,
            scalar(rate),
            self._rate_mults,
            self._decays,
            l1,
            decoupled,
            *map(scalar, hyper),
        )

    def _look(self, values):
        norm = self.gradient_norm = float(values[0])
        if 0 <= self.limit < norm and (self.loss_scale is None or isfinite(norm)):
            scale = self.limit / norm
            limit = f"(L2 norm {norm:g} > {self.limit:g})"
            info(f"Gradient clipping: scaling down gradients {limit} by scale factor {scale:g}")
