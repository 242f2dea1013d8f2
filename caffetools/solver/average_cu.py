"""An average of weights on the GPU, see `average`: it lies there, and is copied to the host when it is asked for."""

from __future__ import annotations

import numpy as np
from numba import cuda

from caffetools.engine.gpu import vector
from caffetools.engine.gpu.launch import cuda_kernel, launch
from caffetools.engine.out_of_memory import OutOfMemory
from caffetools.net import Net, device_memory


class DeviceAverage:
    """The same as `average.HostAverage`."""

    def __init__(self, net: Net):
        self.net = net
        self.begun = False
        self._size = net.flat_data.size
        self._average = net.context.engine.storage(net.context.dtype)

    @property
    def values(self) -> np.ndarray | None:
        """The average on the host, None where there is none."""
        return self._average.read_host(self._size) if self.begun else None

    @values.setter
    def values(self, values: np.ndarray | None) -> None:
        self.begun = values is not None
        if self.begun:
            self._average.at_least(self._size)[...] = values

    def begin(self) -> None:
        """Take over the weights."""
        try:
            average = self._average.write_device(self._size)
        except OutOfMemory as err:
            raise device_memory.explained_for(self.net, "the average of the weights (ema_decay)", err) from None
        vector.copy(self.net.flat_data.read_device(), average)
        self.begun = True

    def blend(self, keep: float) -> None:
        """Move the average towards the weights: keep is d."""
        average = self._average.write_device(self._size)
        launch(blend, self._size, average, self.net.flat_data.read_device(), average.dtype.type(keep))

    def exchange(self) -> None:
        """Let the net have the average, and keep its weights."""
        launch(swap, self._size, self._average.write_device(self._size), self.net.flat_data.write_device())


@cuda_kernel
def blend(average, w, keep):
    """average_i = keep average_i + (1 - keep) w_i"""
    for i in range(cuda.grid(1), w.size, cuda.gridsize(1)):
        average[i] = keep * average[i] + (w.dtype.type(1) - keep) * w[i]


@cuda_kernel
def swap(x, y):
    """Exchange the values of two arrays."""
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        kept = x[i]
        x[i] = y[i]
        y[i] = kept
