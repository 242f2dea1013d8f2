"""LSTM, RNN and LSTMUnit on the GPU: step-by-step NumPy, gradients, and states that go from pass to pass."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.layers import test_lstm_unit as unit
from tests.layers.gradient import SingleLayer, check_gradient
from tests.layers.test_recurrent import KINDS, STATES, inputs, layer_text, parameters, reference

SIZES = [(3, 2, (3,), 2, None), (2, 3, (1, 2), 3, 4), (1, 1, (1,), 1, None)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_equals_one_step_after_the_other(kind, sizes, engine):
    arrays = inputs(*sizes)
    rig = SingleLayer(layer_text(kind, sizes[3]), *arrays, engine=engine)
    expected, states = reference(kind, parameters(rig), *arrays)
    np.testing.assert_allclose(rig.forward()[0], expected, rtol=1e-4, atol=1e-5)
    # The next pass goes on where the last one ended.
    expected, _ = reference(kind, parameters(rig), *arrays, states=states)
    np.testing.assert_allclose(rig.forward()[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sizes", SIZES[:2], ids=str)
def test_gradient(kind, sizes, engine):
    check = [0, 2] if sizes[4] else [0]
    check_gradient(layer_text(kind, sizes[3]), *inputs(*sizes), check=check, engine=engine, samples=6, tolerance=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_exposed_states(kind, engine):
    arrays = inputs(3, 2, (3,), 2, None)
    first = [np.random.default_rng(i).random((1, 2, 2)) for i in range(STATES[kind])]
    text = layer_text(kind, 2, "expose_hidden: true")
    rig = SingleLayer(text, *arrays, *first, tops=1 + STATES[kind], engine=engine)
    outputs, states = reference(kind, parameters(rig), *arrays, states=[state[0] for state in first])
    tops = rig.forward()
    np.testing.assert_allclose(tops[0], outputs, rtol=1e-4, atol=1e-5)
    for top, state in zip(tops[1:], states, strict=True):
        np.testing.assert_allclose(top[0], state, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_state_can_be_kept_and_restored(kind, engine):
    text, arrays = layer_text(kind, 2), inputs(3, 2, (3,), 2, None)
    rig = SingleLayer(text, *arrays, engine=engine)
    rig.forward()
    state = json.loads(json.dumps(rig.layer.get_state()))
    expected = rig.forward()
    rig.layer.set_state(state)
    np.testing.assert_array_equal(rig.forward(), expected)


def test_unit(engine):
    arrays = unit.arrays(4, 3)
    rigs = [SingleLayer(unit.TEXT, *arrays, tops=2, engine=where) for where in (None, engine)]
    expected, actual = (rig.forward() for rig in rigs)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)
    check_gradient(unit.TEXT, *arrays, check=[0, 1], tops=2, engine=engine, samples=12)


def test_a_start_forgets_even_a_nan(engine):
    c_prev, z, _ = unit.arrays(2, 3)
    rig = SingleLayer(unit.TEXT, np.full_like(c_prev, np.nan), z, np.zeros((1, 2)), tops=2, engine=engine)
    assert np.isfinite(rig.forward()).all()
    dc_prev, dz, _ = rig.backward(*rig.forward(), propagate_down=[True, True, False])
    assert not dc_prev.any() and np.isfinite(dz).all()


@pytest.mark.parametrize("wanted", [[True, False, False], [False, True, False]])
def test_only_the_wanted_gradient_is_written(wanted, engine):
    rig = SingleLayer(unit.TEXT, *unit.arrays(4, 3), tops=2, engine=engine)
    diffs = rig.backward(*rig.forward(), propagate_down=wanted)
    assert [bool(np.isfinite(diff).all()) for diff in diffs] == wanted
