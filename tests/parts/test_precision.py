"""Average precision, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from caffetools.parts.precision import average_precision, precision_and_recall

# right, in falling order of the scores, and how many boxes there are: the areas by version
CASES = [
    # precisions 1, 1/2, 2/3 at recalls 1/2, 1/2, 1
    ((1, 0, 1), 2, {"Integral": 5 / 6, "MaxIntegral": 5 / 6, "11point": (6 + 5 * 2 / 3) / 11}),
    # precisions 0, 1/2, 2/3, 3/4 at recalls 0, 1/4, 2/4, 3/4
    ((0, 1, 1, 1), 4, {"Integral": (1 / 2 + 2 / 3 + 3 / 4) / 4, "MaxIntegral": 9 / 16, "11point": 8 * 0.75 / 11}),
    ((1, 1), 2, {"Integral": 1, "MaxIntegral": 1, "11point": 1}),
    ((0, 0), 2, {"Integral": 0, "MaxIntegral": 0, "11point": 0}),
    ((0,), 0, {"Integral": 0, "MaxIntegral": 0, "11point": 0}),
]


@pytest.mark.parametrize(("right", "boxes", "expected"), CASES)
@pytest.mark.parametrize("version", ["Integral", "MaxIntegral", "11point"])
def test_average_precision(right, boxes, expected, version):
    scores = np.linspace(0.9, 0.1, len(right))
    order = np.random.default_rng(2).permutation(len(right))
    actual = average_precision(scores[order], np.array(right)[order], boxes, version)
    assert actual == pytest.approx(expected[version])


def test_curve_in_order_of_the_scores():
    precision, recall = precision_and_recall(np.array([0.1, 0.8, 0.5]), np.array([1, 1, 0]), 4)
    np.testing.assert_allclose(precision, [1, 1 / 2, 2 / 3])
    np.testing.assert_allclose(recall, [1 / 4, 1 / 4, 1 / 2])
