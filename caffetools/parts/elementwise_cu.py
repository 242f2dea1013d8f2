"""Element-wise layers on the GPU: the twin of `parts.elementwise`.

A layer's own `_cu.py` gives the launches of its two kernels; this module keeps the input where the derivative needs it
and the top overwrites it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from caffetools.engine.gpu import vector
from caffetools.engine.gpu.device import current
from caffetools.engine.gpu.memory import device_array


@dataclass(frozen=True)
class Elementwise:
    """The twin's functions for one type of layer.

    apply(layer, x, y) writes f(x) into y, which may be x. gradient(layer, x, y, dy, dx) writes dy f'(x) into dx,
    which may be dy; in place x is y unless the layer needs its input. All arrays are flat and on the device.
    """

    apply: Callable
    gradient: Callable

    def reshape(self, layer, bottom, top):
        keep = layer.needs_input and top[0] is bottom[0]
        count = bottom[0].count
        layer.gpu.kept_input = device_array(current(), count, layer.dtype) if keep else None

    def forward(self, layer, bottom, top):
        x, kept = bottom[0].gpu_data, layer.gpu.kept_input
        if kept is not None:
            vector.copy(x, kept)
            x = kept
        self.apply(layer, x, top[0].mutable_gpu_data)

    def backward(self, layer, top, propagate_down, bottom):
        if propagate_down[0]:
            kept = layer.gpu.kept_input
            x = bottom[0].gpu_data if kept is None else kept
            # Before the bottom's diff, which is the same in place: asking for writing makes the device the newest.
            dy = top[0].gpu_diff
            self.gradient(layer, x, top[0].gpu_data, dy, bottom[0].mutable_gpu_diff)
