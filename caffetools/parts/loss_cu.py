"""What losses on the GPU have in common: the norm, and labels that are no class, without waiting for the device."""

from __future__ import annotations

import numpy as np

from caffetools.engine.gpu.device import current
from caffetools.engine.gpu.lag import Lagged
from caffetools.engine.gpu.memory import device_array, zero
from caffetools.parts.loss import Norm, refuse_label


def fixed_norm(normalization: Norm, outer: int, inner: int) -> int:
    """Return the norm where it does not depend on how many items count, else 0: a kernel then takes their number."""
    one, two = normalization(outer, inner, 2), normalization(outer, inner, 3)
    return one if one == two else 0


def make_wrong_label(layer, classes: int) -> None:
    """Give `layer.gpu` what a loss kernel reports a label that is no class with.

    `layer.gpu.wrong` is a device array (1 + the label's index or 0, the label's value) of float64. Call
    `layer.gpu.wrong_label.send()` after the kernel: the error is raised when the report has reached the host.
    """
    gpu = layer.gpu
    gpu.wrong = device_array(current(), 2, np.float64)
    zero(current(), gpu.wrong)

    def look(values):
        if values[0]:
            index = int(values[0]) - 1
            refuse_label(layer, {index: values[1]}, index, classes)

    gpu.wrong_label = Lagged(current(), gpu.wrong, look)
