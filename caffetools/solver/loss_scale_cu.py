"""The scale of the loss on the GPU: nobody waits for it, and it changes where the gradients are.

Its state is an array of float64: the scale, the good steps since it changed, the steps that were skipped.
"""

from __future__ import annotations

import math

import numpy as np
from numba import cuda

from caffetools.engine.gpu import vector
from caffetools.engine.gpu.lag import Lagged
from caffetools.engine.gpu.launch import THREADS, cuda_kernel, launch, launch_blocks
from caffetools.engine.gpu.memory import overwrite, to_device, to_host
from caffetools.engine.gpu.reduce import block_sum
from caffetools.glog import info
from caffetools.net import Net
from caffetools.solver.precision import LossScaling

#: Between these a scale stays.
LEAST, MOST = 2.0**-24, 2.0**24


class LossScale:
    """Scales the losses of a net in its backward passes, and the step back.

    state: on the device, see above.
    """

    def __init__(self, net: Net, scaling: LossScaling):
        engine, dtype = net.context.engine, net.context.dtype
        self.net, self.window = net, scaling.window
        self.state = to_device(engine, np.array([scaling.first, 0, 0]))
        losses = zip(net.blob_list, net.blob_loss_weights, strict=True)
        self._losses = [
            (blob, to_device(engine, np.full(blob.count, weight, dtype))) for blob, weight in losses if weight
        ]
        self._lagged = Lagged(engine, self.state, self._look)
        self._skipped = 0.0

    def backward(self) -> None:
        """Run the backward pass of the scaled losses."""
        for blob, weights in self._losses:
            launch(scale_by, blob.count, weights, self.state, blob.mutable_gpu_diff)
        self.net.backward()
        for blob, weights in self._losses:
            # The forward pass computes the loss by them.
            vector.copy(weights, blob.mutable_gpu_diff)

    def judge(self, squares, limit: float, passes: int, norm, scale) -> None:
        """Write the gradients' norm and what scales the step, NaN to skip it; and change the scale of the loss.

        squares: sums of squares of the scaled gradients. limit, passes: as for `rules_cu.clip`.
        """
        numbers = np.float64(limit), np.float64(passes), self.window
        launch_blocks(judge_gradients, 1, THREADS, squares, *numbers, self.state, norm, scale)
        self._lagged.send()

    def read(self) -> list[float]:
        """Return the state, which waits for the device."""
        return to_host(self.net.context.engine, self.state).tolist()

    def write(self, state: list[float]) -> None:
        """Go on from what `read` returned."""
        overwrite(self.net.context.engine, self.state, np.array(state, np.float64))
        self._skipped = state[2]

    def _look(self, values):
        scale, _, skipped = values.tolist()
        if skipped > self._skipped:
            then = f", the loss is scaled by {scale:g} from now on" if self.window else ""
            info(f"The gradients are not finite: a step is skipped{then}")
        self._skipped = skipped


@cuda_kernel
def scale_by(x, state, y):
    """y_i = x_i state_0"""
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        y[i] = x[i] * y.dtype.type(state[0])


@cuda_kernel
def judge_gradients(squares, limit, passes, window, state, norm, scale):
    """See `LossScale.judge`; by the first block."""
    shared = cuda.shared.array(THREADS, np.float64)
    thread = cuda.threadIdx.x
    if cuda.blockIdx.x == 0:
        own = np.float64(0)
        for i in range(thread, squares.size, cuda.blockDim.x):
            own += squares[i]
        total = math.sqrt(block_sum(own, shared))
        if thread == 0:
            loss_scale, good = state[0], state[1]
            total /= loss_scale
            norm[0] = total
            # Neither NaN nor infinite.
            if total - total == 0:
                clipping = limit / total if limit >= 0 and total > limit else np.float64(1)
                scale[0] = clipping / (passes * loss_scale)
                good += 1
                if window > 0 and good >= window:
                    loss_scale, good = min(2 * loss_scale, MOST), np.float64(0)
            else:
                scale[0] = np.nan
                good = np.float64(0)
                state[2] += 1
                if window > 0:
                    loss_scale = max(loss_scale / 2, LEAST)
            state[0], state[1] = loss_scale, good
