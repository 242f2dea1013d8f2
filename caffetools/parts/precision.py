"""Average precision: how good a list of detections is, of which some are right."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Curve = tuple[np.ndarray, np.ndarray]


def precision_and_recall(scores: np.ndarray, right: np.ndarray, boxes: int) -> Curve:
    """Return both after each detection, the highest score first.

    scores: of the detections. right: whether each is right. boxes: how many there are to be found.
    """
    right = np.cumsum(right[np.argsort(-scores, kind="stable")])
    return right / np.arange(1, len(right) + 1), right / boxes if boxes else np.zeros(len(right))


def _at_eleven_points(precision, recall):
    """Of VOC 2007: the mean of the best precisions at recalls of 0, 0.1 ... 1 and above."""
    return np.mean([precision[recall >= point / 10].max(initial=0) for point in range(11)])


def _under_best(precision, recall):
    """Of VOC 2012: the area under the precisions, each raised to the best one at its recall or above."""
    return _under(np.maximum.accumulate(precision[::-1])[::-1], recall)


def _under(precision, recall):
    """The area under the precisions themselves."""
    return np.sum(precision * np.diff(recall, prepend=0))


#: The ways to make one number of a curve, by SSD's names.
VERSIONS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "11point": _at_eleven_points,
    "MaxIntegral": _under_best,
    "Integral": _under,
}


def average_precision(scores: np.ndarray, right: np.ndarray, boxes: int, version: str) -> float:
    """Return the average precision in one of the `VERSIONS`."""
    return float(VERSIONS[version](*precision_and_recall(scores, right, boxes)))
