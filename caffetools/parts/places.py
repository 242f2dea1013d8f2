"""Arrays that may lie in the same memory."""

from __future__ import annotations

import numpy as np


def lies_at(part: np.ndarray, whole: np.ndarray, first: int = 0) -> bool:
    """Say whether a contiguous array begins where element `first` of another one lies."""
    begin, end = (array.__array_interface__["data"][0] for array in (whole, part))
    return begin + first * whole.itemsize == end
