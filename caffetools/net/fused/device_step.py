"""Fused steps on a GPU: what they have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from caffetools.engine.gpu import vector
from caffetools.engine.gpu.device import current
from caffetools.engine.gpu.launch import launch
from caffetools.engine.gpu.memory import device_array
from caffetools.net.fused.members import FusedStep, Member


class DeviceStep(FusedStep):
    """forward_of: the functions that run the members one by one."""

    def __init__(self, first: int, last: int, members: Sequence[Member], forward_of: Sequence[Callable]):
        super().__init__(first, last, members)
        self.forward_of = forward_of
        self.slope = self.dtype.type(self.slope)

    @property
    def residual(self):
        """What the sum adds to the chain, flat on the device."""
        return None if self.other is None else self.eltwise.bottoms[self.other].gpu_data

    def constant(self, value: float, count: int):
        """Return a new array on the device."""
        array = device_array(current(), count, self.dtype)
        launch(vector.fill, count, self.dtype.type(value), array)
        return array

    def affine(self, ones, zeros) -> tuple:
        """Return gamma and beta of the Scale layer; ones and zeros stand for what it lacks."""
        if self.scale is None:
            return ones, zeros
        layer = self.scale.layer
        return layer.blobs[0].gpu_data, layer.blobs[1].gpu_data if layer.has_bias else zeros
