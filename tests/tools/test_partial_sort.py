"""The best of many scores: in the order that a C++ program with std::partial_sort (GCC 12) printed."""

from __future__ import annotations

import numpy as np
import pytest

from caffetools.tools.partial_sort import best

# count, scores | places, as the program printed them.
PRINTED = """
5 1 0 0 0 0 0 0 0 0 0 | 0 1 3 4 2
5 1 1 1 0 0 1 1 0 1 0 1 1 0 0 | 0 1 5 6 2
3 0 0 0 0 0 0 0 | 0 1 2
2 1 2 6 2 5 7 1 0 3 2 5 5 5 7 | 13 5
8 2 2 1 3 5 0 1 1 2 4 4 1 3 2 6 | 14 4 10 9 3 12 1 8
13 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 | 8 10 4 7 12 3 9 1 11 5 0 2 6
1 3 3 4 3 1 4 4 2 | 2
"""


@pytest.mark.parametrize("line", PRINTED.strip().splitlines())
def test_equal_scores(line):
    (count, *scores), places = ([int(word) for word in part.split()] for part in line.split("|"))
    assert best(scores, count) == places


@pytest.mark.parametrize("count", [1, 2, 5, 999, 1000, 1001])
def test_different_scores(count):
    scores = np.random.default_rng(count).permutation(1000)
    assert best(scores.tolist(), count) == np.argsort(-scores)[:count].tolist()


def test_no_scores():
    assert best([], 5) == []
