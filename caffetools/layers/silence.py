"""Silence: takes any number of bottoms and gives nothing, so that they are no outputs of the net.

The gradient is zero.
"""

from __future__ import annotations

from caffetools.layer import Layer


class SilenceLayer(Layer):
    min_bottoms = 1
    exact_tops = 0
    backward_reads = ()

    def reshape(self, bottom, top):
        """Nothing to do: there is no top."""

    def forward(self, bottom, top):
        """Nothing to do."""

    def backward(self, top, propagate_down, bottom):
        for blob, wanted in zip(bottom, propagate_down, strict=True):
            if wanted:
                blob.flat_diff.fill(0)
