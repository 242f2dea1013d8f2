"""Arrays that may lie in the same memory."""

from __future__ import annotations

import numpy as np
import pytest

from caffetools.parts.places import lies_at


@pytest.mark.parametrize(
    ("begin", "end", "first", "found"),
    [(0, 10, 0, True), (0, 4, 0, True), (4, 10, 4, True), (4, 5, 4, True), (3, 10, 4, False), (5, 10, 4, False),
     (4, 10, 0, False), (0, 10, 4, False)],
)  # fmt: skip
@pytest.mark.parametrize("shape", [(-1,), (1, -1), (2, 5)])
def test_a_part_lies_where_its_first_element_is_the_other_ones(begin, end, first, found, shape):
    memory = np.zeros(10, np.float32)
    assert lies_at(memory[begin:end], memory.reshape(shape), first) == found


def test_arrays_of_their_own_lie_nowhere_else():
    assert not lies_at(np.zeros(3, np.float32), np.zeros(3, np.float32))
