"""Accuracy against a count in Python, and its quirks."""

from __future__ import annotations

import numpy as np
import pytest

from caffetools.glog import FatalError
from tests.layers.gradient import SingleLayer, distinct


def text_of(settings=""):
    return f'type: "Accuracy" accuracy_param {{ {settings} }}'


def is_right(scores, labels, axis, top_k):
    """Whether fewer than top_k classes have a better score than the label's; no two scores are equal."""
    own = np.take_along_axis(scores, np.expand_dims(labels, axis), axis)
    return (scores > own).sum(axis=axis) < top_k


@pytest.mark.parametrize(("shape", "axis"), [((20, 5), 1), ((3, 6, 4, 2), 1), ((3, 4, 6), -1), ((1, 7), 1)])
@pytest.mark.parametrize("top_k", [1, 3, 5])
@pytest.mark.parametrize("ignore", [None, 2, 255])
def test_accuracy(shape, axis, top_k, ignore):
    scores = distinct(*shape)
    labels = np.random.default_rng(2).integers(0, shape[axis], np.delete(shape, axis))
    if ignore == 255:
        labels.flat[::3] = 255
    counts = labels != ignore
    right = is_right(scores, np.where(counts, labels, 0), axis, top_k) & counts
    settings = f"top_k: {top_k} axis: {axis}" + (f" ignore_label: {ignore}" if ignore else "")
    share, by_class = SingleLayer(text_of(settings), scores, labels, tops=2).forward()
    np.testing.assert_allclose(share, right.sum() / max(1, counts.sum()), rtol=1e-6)
    for c in range(shape[axis]):
        of_class = (labels == c) & counts
        np.testing.assert_allclose(by_class[c], right[of_class].mean() if of_class.any() else 0, rtol=1e-6)


def test_equal_scores_count_against_the_label():
    assert SingleLayer(text_of(), np.zeros((4, 3)), [0, 1, 2, 0]).forward()[0] == 0
    assert SingleLayer(text_of("top_k: 3"), np.zeros((4, 3)), [0, 1, 2, 0]).forward()[0] == 1


def test_nan_scores_count_as_right():
    assert SingleLayer(text_of(), np.full((4, 3), np.nan), [0, 1, 2, 0]).forward()[0] == 1


def test_nothing_to_count_gives_zero():
    assert SingleLayer(text_of("ignore_label: 1"), distinct(2, 3), [1, 1]).forward()[0] == 0


def test_refuses_more_candidates_than_classes():
    with pytest.raises(FatalError, match="top_k must be less than or equal to the number of classes"):
        SingleLayer(text_of("top_k: 4"), distinct(2, 3), [0, 1])


def test_refuses_to_give_a_gradient():
    rig = SingleLayer(text_of(), distinct(2, 3), [0, 1])
    rig.forward()
    with pytest.raises(FatalError, match="Accuracy Layer has no gradient"):
        rig.backward(1)
    rig.backward(1, propagate_down=[False, False])
    assert not any(rig.layer.allow_force_backward(i) for i in range(2))
