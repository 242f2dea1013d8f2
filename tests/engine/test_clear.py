"""Setting arrays to zero."""

from __future__ import annotations

import numpy as np
import pytest

from caffetools.engine.cpu.clear import LARGE, PIECES, clear


@pytest.mark.parametrize("size", [0, 1, LARGE - 1, LARGE, LARGE + 1, PIECES * LARGE + PIECES + 1])
def test_everything_is_zero_and_nothing_else_is_touched(size):
    whole = np.ones(size + 2, np.float32)
    clear(whole[1:-1])
    assert not whole[1:-1].any() and whole[0] == whole[-1] == 1
