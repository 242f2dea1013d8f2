"""Where a loss went wrong: the first layer whose output is not finite, and what its numbers look like."""

from __future__ import annotations

from collections import deque
from math import isfinite

import numpy as np

from caffetools.glog import fatal
from caffetools.net import Net
from caffetools.proto import caffe_pb2


class LossWatch:
    """Looks at the losses of a run, which come from a GPU with a lag, and stops it where one is not finite.

    net: that learns. param: the solver file, whose `stop_on_nan` says whether it stops. last_snapshot: the solverstate
    to go back to, if there is one.
    """

    def __init__(self, net: Net, param: caffe_pb2.SolverParameter):
        self.net, self.param = net, param
        self.last_snapshot = ""
        self._unseen: deque[tuple[int, float]] = deque()

    def add(self, iteration: int, loss: float) -> None:
        """Take a loss that may be on its way."""
        self._unseen.append((iteration, loss))

    def go_on_from(self, snapshot: str) -> None:
        """Forget the losses that nobody has looked at: the run goes on from a solverstate."""
        self.last_snapshot = snapshot
        self._unseen.clear()

    def check(self, lag: int) -> None:
        """Look at all losses but the last `lag` ones. Errors: FatalError, which says where the first one went wrong."""
        while len(self._unseen) > lag:
            iteration, loss = self._unseen.popleft()
            if self.param.stop_on_nan and not isfinite(loss):
                self._refuse(iteration, loss)

    def _refuse(self, iteration, loss):
        last = f"The last snapshot, {self.last_snapshot}, is untouched. " if self.last_snapshot else ""
        self.net.clear_param_diffs()
        fatal(
            f"Iteration {iteration}: the loss is {loss:g}. The first that is not finite is "
            f"{first_culprit(self.net)}. {last}"
            "A lower base_lr or clip_gradients often helps; stop_on_nan: false in the solver file trains on."
        )


def describe(values: np.ndarray) -> str:
    """Return a sentence about an array: how many NaNs and infinities, and the range of the rest."""
    nans, infinities = int(np.isnan(values).sum()), int(np.isinf(values).sum())
    finite = values[np.isfinite(values)]
    text = f"{nans} of {values.size} values are NaN, {infinities} infinite"
    if finite.size:
        mean = finite.mean(dtype=np.float64)
        text += f"; the others lie between {finite.min():g} and {finite.max():g}, their mean is {mean:g}"
    return text


def first_culprit(net: Net) -> str:
    """Name the first blob of a forward pass that holds a NaN or an infinity.

    Parameters count as well: an update that overflowed shows there first. Where blobs share memory, what they held may
    have been overwritten: the pass is then run again, on the same inputs.
    """
    gone = net.unplan()
    for i, layer in enumerate(net.layers):
        for j, blob in enumerate(layer.blobs):
            if not np.isfinite(blob.data).all():
                return f"parameter {j} of layer '{layer.name}' ({layer.type}): {describe(blob.flat_data)}"
        if gone and net.bottoms[i]:
            net.forward_layer(i)
        for name, blob in zip(net.top_names[i], net.tops[i], strict=True):
            if not np.isfinite(blob.data).all():
                return (
                    f"blob '{name}' made by layer '{layer.name}' ({layer.type}): {describe(blob.flat_data)}"
                )
    return "every blob is finite, only the sum of the losses is not"
