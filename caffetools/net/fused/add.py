"""Eltwise and ReLU: y = f(a + b)."""

from __future__ import annotations

import numba

from caffetools.engine.cpu.jit import parallel_kernel
from caffetools.net.fused.members import FusedStep


class AddStep(FusedStep):
    def forward(self):
        a, b = (blob.flat_data for blob in self.members[0].bottoms)
        add_forward(a, b, self.dtype.type(self.slope), self.top.flat_data)


@parallel_kernel
def add_forward(a, b, slope, y):
    zero = y.dtype.type(0)
    for i in numba.prange(y.size):
        v = a[i] + b[i]
        y[i] = slope * v if v < zero else v
