"""LSTM and RNN in the TEST phase, where some steps are done at a time, beside themselves in the TRAIN phase."""

from __future__ import annotations

import numpy as np
import pytest

from caffetools.layer import TEST, TRAIN
from tests.layers.gradient import SingleLayer
from tests.layers.test_recurrent import KINDS, STATES, inputs, layer_text

# T, and how many steps are done at a time
WINDOWS = [(4, 4), (5, 5), (7, 7), (10, 5), (12, 6), (14, 7), (30, 5)]


def pair(kind, steps, static=None, more=""):
    """Return the same layer in the TRAIN and in the TEST phase."""
    arrays = inputs(steps, 3, (4,), 40, static)
    if more:
        arrays += [np.random.default_rng(6 + i).standard_normal((1, 3, 40)) for i in range(STATES[kind])]
    tops = 1 + (STATES[kind] if more else 0)
    return [SingleLayer(layer_text(kind, 40, more), *arrays, tops=tops, phase=phase) for phase in (TRAIN, TEST)]


def assert_same(some, others):
    for one, other in zip(some, others, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("steps", "window"), WINDOWS)
@pytest.mark.parametrize("static", [None, 2])
def test_outputs_and_states_are_the_same(kind, steps, window, static):
    train, test = pair(kind, steps, static)
    assert train.layer.window == steps and test.layer.window == window
    for _ in range(2):  # the second pass begins where the first one ended
        assert_same(train.forward(), test.forward())
        assert train.layer.get_state() == test.layer.get_state()


@pytest.mark.parametrize("kind", KINDS)
def test_exposed_states_are_the_same(kind):
    train, test = pair(kind, 10, more="expose_hidden: true")
    assert test.layer.window == 5
    assert_same(train.forward(), test.forward())


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_the_same(kind):
    """Deploy nets go back as well, to show what a net looks at."""
    train, test = pair(kind, 10)
    y = train.forward()[0].copy()
    test.forward()
    wanted = [True, False]
    for _ in range(2):
        assert_same(*(rig.backward(y, propagate_down=wanted) for rig in (train, test)))
        assert_same(*([blob.diff for blob in rig.layer.blobs] for rig in (train, test)))
    # The pass after it begins where the last one ended, too.
    assert_same(train.forward(), test.forward())


@pytest.mark.parametrize("kind", KINDS)
def test_other_streams_come(kind):
    train, test = pair(kind, 10)
    train.forward(), test.forward()
    more = inputs(10, 5, (4,), 40, None)
    for rig in (train, test):
        rig.reshape(*more)
    assert_same(train.forward(), test.forward())
