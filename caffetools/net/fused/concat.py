"""Concat whose bottoms are written into its top by the convolutions that they come from; see `placing`.

Forward, what is there already is not copied. Backward, the part of dy that belongs to a convolution with ReLU is masked
by the signs of y on its way: dx = dy where y > 0, else slope dy.
"""

from __future__ import annotations

from collections.abc import Mapping

import numba

from caffetools.engine.cpu.jit import parallel_kernel
from caffetools.layers.concat import extract_columns, insert_columns
from caffetools.net.fused.affine import AffineStep
from caffetools.net.fused.members import FusedStep, Member
from caffetools.net.fused.place import Place

#: Elements of one job.
CHUNK = 1 << 14


class ConcatStep(FusedStep):
    """writers: by the number of the bottom, the steps that may write it into the top."""

    def __init__(self, index: int, member: Member, writers: Mapping[int, AffineStep]):
        super().__init__(index, index, [member])
        self.layer, self.bottoms, self.writers = member.layer, member.bottoms, writers
        self.propagate_down, self.goes_backward = member.propagate_down, member.needs_backward
        for bottom, writer in writers.items():
            writer.place = Place(member, bottom)
        # The first that runs finds the shape of the top to be right.
        first = min(writers.values(), key=lambda writer: writer.first)
        first.prepares = max(first.prepares, index)

    def read_backward(self):
        return [self.top] if any(writer.goes_backward for writer in self.writers.values()) else []

    def forward(self):
        y = self.top.flat_data.reshape(self.layer.matrix)
        for i, (blob, first) in enumerate(zip(self.bottoms, self.layer.firsts, strict=True)):
            if self._writer(i) is None:
                insert_columns(blob.flat_data, y, first)

    def backward(self):
        dy = self.top.flat_diff.reshape(self.layer.matrix)
        for i, (blob, first) in enumerate(zip(self.bottoms, self.layer.firsts, strict=True)):
            writer = self._writer(i)
            if not self.propagate_down[i]:
                continue
            if writer is None or not writer.goes_backward:
                extract_columns(dy, first, blob.flat_diff)
                continue
            y, dx = self.top.flat_data.reshape(dy.shape), blob.flat_diff.reshape(len(dy), -1)
            extract_masked(dy, y, first, self.dtype.type(writer.slope), dx)
            writer.place.masked = True

    def part(self):
        """The layer goes backward without any data; those of the bottoms are for their steps to copy."""

    def _writer(self, i):
        """Return the step that has written bottom i into the top, or None."""
        writer = self.writers.get(i)
        return writer if writer is not None and writer.ran and writer.place.used else None


@parallel_kernel
def extract_masked(dy, y, first, slope, dx):
    """Write the columns of dy from `first` on to dx, where y is not positive times `slope`."""
    zero = y.dtype.type(0)
    width = dx.shape[1]
    chunks = (width + CHUNK - 1) // CHUNK
    for job in numba.prange(dx.shape[0] * chunks):
        row, begin = job // chunks, job % chunks * CHUNK
        end = min(begin + CHUNK, width)
        signs, source = y[row, first + begin : first + end], dy[row, first + begin : first + end]
        target = dx[row, begin:end]
        for i in range(target.size):
            target[i] = source[i] if signs[i] > zero else slope * source[i]
