"""Layers that treat every element by itself: y_i = f(x_i), dx_i = dy_i f'(x_i)."""

from __future__ import annotations

import numpy as np

from caffetools.layer import Layer


class ElementwiseLayer(Layer):
    """From one bottom to one top of its shape; may work in place.

    Subclasses implement `apply`, and `derivative` or, where a kernel does it in one pass, `gradient`; the
    arrays have one axis. `needs_input` says that the derivative is computed from x: a bottom that the top
    overwrites is then copied first. (The original has no such copy for BNLL, Clip, Log and Power, and gets
    their gradients wrong in place.)
    """

    exact_bottoms = 1
    exact_tops = 1
    needs_input = False

    def reshape(self, bottom, top):
        top[0].reshape_like(bottom[0])
        keep = self.needs_input and top[0] is bottom[0]
        self.kept_input = np.empty(bottom[0].count, self.dtype) if keep else None

    def forward(self, bottom, top):
        x = bottom[0].flat_data
        if self.kept_input is not None:
            np.copyto(self.kept_input, x)
            x = self.kept_input
        with np.errstate(all="ignore"):
            self.apply(x, top[0].flat_data)

    def backward(self, top, propagate_down, bottom):
        if propagate_down[0]:
            x = bottom[0].flat_data if self.kept_input is None else self.kept_input
            with np.errstate(all="ignore"):
                self.gradient(x, top[0].flat_data, top[0].flat_diff, bottom[0].flat_diff)

    def apply(self, x: np.ndarray, y: np.ndarray) -> None:
        """Write f(x) into y, which may be x unless the layer needs its input."""
        raise NotImplementedError

    def derivative(self, x: np.ndarray, y: np.ndarray, slope: np.ndarray) -> None:
        """Write f'(x) into slope, given y = f(x); in place x is y unless the layer needs its input."""
        raise NotImplementedError

    def gradient(self, x: np.ndarray, y: np.ndarray, dy: np.ndarray, dx: np.ndarray) -> None:
        """Write dy f'(x) into dx, which may be dy."""
        slope = np.empty_like(dx) if dx is dy else dx
        self.derivative(x, y, slope)
        np.multiply(slope, dy, out=dx)
