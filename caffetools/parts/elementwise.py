"""Layers that treat every element by itself: y_i = f(x_i), dx_i = dy_i f'(x_i)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from caffetools.blob import Blob
from caffetools.layer import Layer

#: For functions that use NumPy, which would warn of infinities and NaNs.
without_warnings = np.errstate(all="ignore")


class ElementwiseLayer(Layer):
    """From one bottom to one top of its shape; may work in place.

    Subclasses implement `apply`, and `derivative` or, where a kernel does it in one pass, `gradient`; the
    arrays have one axis. An `apply` that uses NumPy is to be `without_warnings`. `needs_input` says that the
    derivative is computed from x: a bottom that the top overwrites is then copied first. (The original has no
    such copy for BNLL, Clip, Log and Power, and gets their gradients wrong in place.) Otherwise the derivative
    is computed from y, or from neither.
    """

    exact_bottoms = 1
    exact_tops = 1
    needs_input = False

    def reshape(self, bottom, top):
        top[0].reshape_like(bottom[0])
        self.copy = Blob(bottom[0].shape, self.dtype) if self.needs_input and top[0] is bottom[0] else None

    @property
    def backward_reads(self):
        if not self.needs_input:
            return ("top",)
        return ("bottom",) if self.copy is None else ()

    def kept(self):
        return [] if self.copy is None else [self.copy]

    def input_of(self, bottom: Sequence[Blob]) -> np.ndarray:
        """Return x after the forward pass, flat; where the derivative needs no input it may not be there any more."""
        return (bottom[0] if self.copy is None else self.copy).flat_data

    def forward(self, bottom, top):
        x = bottom[0].flat_data
        if self.copy is not None:
            np.copyto(self.copy.flat_data, x)
            x = self.copy.flat_data
        self.apply(x, top[0].flat_data)

    def backward(self, top, propagate_down, bottom):
        if propagate_down[0]:
            self.gradient(self.input_of(bottom), top[0].flat_data, top[0].flat_diff, bottom[0].flat_diff)

    def apply(self, x: np.ndarray, y: np.ndarray) -> None:
        """Write f(x) into y, which may be x unless the layer needs its input."""
        raise NotImplementedError

    def derivative(self, x: np.ndarray, y: np.ndarray, slope: np.ndarray) -> None:
        """Write f'(x) into slope, given y = f(x), and x if the layer needs its input."""
        raise NotImplementedError

    def gradient(self, x: np.ndarray, y: np.ndarray, dy: np.ndarray, dx: np.ndarray) -> None:
        """Write dy f'(x) into dx, which may be dy."""
        slope = np.empty_like(dx) if dx is dy else dx
        with np.errstate(all="ignore"):
            self.derivative(x, y, slope)
            np.multiply(slope, dy, out=dx)
