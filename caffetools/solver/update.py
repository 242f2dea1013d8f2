"""The update of a net on the CPU; `update_cu` has the one for a GPU, which is asked for in the same way."""

from __future__ import annotations

import numpy as np

from caffetools.engine.aligned import aligned_zeros
from caffetools.glog import info
from caffetools.net import Net
from caffetools.proto import caffe_pb2
from caffetools.solver.rules import Rule, decay_weights, squares_of_blocks


class HostUpdate:
    """What an update needs beside the parameters and their gradients.

    net: whose parameters are learnt. rule: by which. param: the solver file, whose settings may change between steps.
    table: see `rules.block_table`. rate_mults, decays: by parameter.

    `gradient_norm` is that of the last step that was measured. lag: how many losses may be on their way.
    """

    lag = 0
    loss_scale = None

    def __init__(
        self,
        net: Net,
        rule: Rule,
        param: caffe_pb2.SolverParameter,
        table: np.ndarray,
        rate_mults: np.ndarray,
        decays: np.ndarray,
    ):
        self.net, self.rule, self.param = net, rule, param
        self._table, self._rate_mults, self._decays = table, rate_mults, decays
        self._history = aligned_zeros((rule.histories, net.flat_data.size), net.context.dtype)
        self._squares = np.zeros(len(table))
        self.gradient_norm = 0.0

    def backward(self) -> None:
        """Run the net's backward pass."""
        self.net.backward()

    def history(self) -> np.ndarray:
        """Return the history, (histories, size of the flat buffer)."""
        return self._history

    def measure(self, now: bool) -> None:
        """Compute the norm of the gradients; whoever does not need it now waits no longer."""
        squares_of_blocks(self.net.param_diff, self._table, self._squares)
        self.gradient_norm = float(np.sqrt(self._squares.sum()))

    def apply(self, rate: float, l1: bool, decoupled: bool, hyper: tuple[float, ...]) -> None:
        """Take the step of the rule; the diffs hold it afterwards."""
        net, dtype = self.net, self.net.context.dtype.type
        scale = self._clip_scale() / self.param.iter_size
        rates, decays = self._rate_mults * dtype(rate), self._decays
        if decoupled:
            decay_weights(net.param_data, self._table, (1 - np.float64(rates) * decays).astype(dtype))
            decays = np.zeros_like(decays)
        numbers = np.array(hyper, net.context.dtype)
        arrays = net.param_data, net.param_diff, self._history, self._table
        self.rule.kernel(*arrays, dtype(scale), rates, decays, l1, numbers)

    def _clip_scale(self):
        limit, norm = self.param.clip_gradients, self.gradient_norm
        if limit < 0 or norm <= limit:
            return 1.0
        scale = limit / norm
        info(
            f"Gradient clipping: scaling down gradients (L2 norm {norm:g} > {limit:g}) by scale factor {scale:g}"
        )
        return scale
