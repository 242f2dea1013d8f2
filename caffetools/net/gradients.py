"""The gradients of all parameters: sums that are started anew in each step.

To clear a large array and to add to it later goes over memory three times where once would do. Layers that can write a
gradient as well as add to it name the parameter in `first_gradient_of`; those that no other layer shares are not
cleared, but written by the next backward pass.
"""

from __future__ import annotations

from collections.abc import Iterable

from caffetools.engine.cpu.clear import clear
from caffetools.layer import Layer


class Gradients:
    """Clears the gradients of a net.

    flat: the buffer that holds all of them. written: (layer, first element, end) of each gradient that the layer will
    write; in the order of the buffer.
    """

    def __init__(self, flat, written: Iterable[tuple[Layer, int, int]] = ()):
        self._flat = flat
        self._writers: list[Layer] = []
        self._others: list[tuple[int, int]] = []
        start = 0
        for layer, first, end in written:
            self._writers.append(layer)
            self._others.append((start, first))
            start = end
        self._others.append((start, flat.size))

    def clear(self) -> None:
        """Set all gradients to zero."""
        self._flat.clear()
        for layer in self._writers:
            layer.writes_gradient = False

    def begin(self) -> None:
        """Start new sums for a backward pass of the whole net, before which nobody looks at the gradients."""
        if not self._writers:
            return self._flat.clear()
        array = self._flat.array
        for start, end in self._others:
            clear(array[start:end])
        for layer in self._writers:
            layer.writes_gradient = True
