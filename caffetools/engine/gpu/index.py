"""Where an element lies: divisions of indices, which take most of the time of a kernel that does little else.

A division of 64 bits is several times slower than one of 32, and blobs have fewer than 2^31 elements.
"""

from __future__ import annotations

import numpy as np

from caffetools.engine.gpu.launch import cuda_device


@cuda_device
def quotient(a, b):
    """Return a // b of numbers that are not negative and fit into 32 bits."""
    return np.int32(np.uint32(a) // np.uint32(b))


@cuda_device
def middle(i, size, inner):
    """Return the place on the middle axis of element i of (outer, size, inner)."""
    place = quotient(i, inner)
    return place - quotient(place, size) * size
