"""LSTM and RNN in the TEST phase, where some steps are done at a time, beside themselves in the TRAIN phase."""

from __future__ import annotations

import numpy as np
import pytest

from caffetools.engine.cpu import step_inputs
from caffetools.layer import TEST, TRAIN
from tests.layers.gradient import SingleLayer
from tests.layers.test_recurrent import KINDS, STATES, inputs, layer_text

# T, and how many steps are done at a time
WINDOWS = [(4, 4), (5, 5), (7, 7), (10, 5), (12, 4), (14, 7), (30, 5)]


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
@pytest.mark.parametrize("phase", [TRAIN, TEST])
@pytest.mark.parametrize("width", [4, 600])  # 600: in pieces
def test_packed_or_as_they_lie_the_weights_give_the_same(kind, phase, width, monkeypatch):
    arrays = inputs(8, 8, (width,), 40, None)
    lying = SingleLayer(layer_text(kind, 40), *arrays, phase=phase)
    monkeypatch.setattr(step_inputs, "MOST_FILLED", 0)
    packed = SingleLayer(layer_text(kind, 40), *arrays, phase=phase)
    assert len(lying.layer.packings()) == 1 and len(packed.layer.packings()) == 2
    assert_same(lying.forward(), packed.forward())


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
