"""Scratch on the device that everything on the compute stream shares: what is there belongs to one operation only."""

from __future__ import annotations

import numpy as np

from caffetools.engine.gpu.memory import device_array
from caffetools.engine.out_of_memory import OutOfMemory


class Workspace:
    """One buffer, as large as the operation that needs most.

    Who needs scratch reserves it when it learns of its shapes, and asks for the array whenever it starts: the work of
    others comes between, and another's reservation may have moved the buffer.
    """

    def __init__(self, engine):
        self._engine = engine
        self._bytes = None
        self._views: dict[np.dtype, object] = {}

    @property
    def size(self) -> int:
        """The bytes that are reserved."""
        return 0 if self._bytes is None else self._bytes.size

    def reserve(self, count: int, dtype) -> None:
        """See to it that there is room for `count` elements.

        Errors: OutOfMemory; then there is the room that there was before.
        """
        # At least one piece, so that there is an address for who needs nothing.
        size = max(1, -(-count * np.dtype(dtype).itemsize // 256)) * 256
        before = self.size
        if size > before:
            self._views.clear()
            # The old one goes first: both together may not fit.
            self._bytes = None
            try:
                self._bytes = device_array(self._engine, size, np.uint8)
            except OutOfMemory:
                if before:
                    self._bytes = device_array(self._engine, before, np.uint8)
                raise

    def array(self, dtype):
        """Return the buffer as a flat array of this type; it may be longer than what was reserved."""
        dtype = np.dtype(dtype)
        view = self._views.get(dtype)
        if view is None:
            view = self._views[dtype] = self._bytes.view(dtype)
        return view
