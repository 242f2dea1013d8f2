from __future__ import annotations

import numpy as np
import pytest

from caffetools.glog import FatalError
from tests.layers.gradient import SingleLayer, check_gradient, uniform

TEXT = 'type: "LSTMUnit"'


def arrays(streams, hidden):
    cont = (np.arange(streams) % 3 > 0).astype(float)[None]
    return uniform(1, streams, hidden), uniform(1, streams, 4 * hidden, low=-2, high=2, seed=4), cont


@pytest.mark.parametrize(("streams", "hidden"), [(4, 3), (1, 1), (5, 17)])
def test_formula_and_gradient(streams, hidden):
    c_prev, z, cont = arrays(streams, hidden)
    i, f, o, g = np.split(z, 4, axis=2)
    i, f, o = (1 / (1 + np.exp(-v)) for v in (i, f, o))
    c = cont[..., None] * f * c_prev + i * np.tanh(g)
    tops = SingleLayer(TEXT, c_prev, z, cont, tops=2).forward()
    np.testing.assert_allclose(tops[0], c, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(tops[1], o * np.tanh(c), rtol=1e-5, atol=1e-6)
    check_gradient(TEXT, c_prev, z, cont, check=[0, 1], tops=2)


def test_a_start_forgets_even_a_nan():
    c_prev, z, _ = arrays(2, 3)
    rig = SingleLayer(TEXT, np.full_like(c_prev, np.nan), z, np.zeros((1, 2)), tops=2)
    tops = rig.forward()
    assert np.isfinite(tops).all()
    dc_prev, dz, _ = rig.backward(*tops, propagate_down=[True, True, False])
    assert not dc_prev.any() and np.isfinite(dz).all()


@pytest.mark.parametrize("wanted", [[True, False, False], [False, True, False]])
def test_only_the_wanted_gradient_is_written(wanted):
    rig = SingleLayer(TEXT, *arrays(4, 3), tops=2)
    diffs = rig.backward(*rig.forward(), propagate_down=wanted)
    assert [bool(np.isfinite(diff).all()) for diff in diffs] == wanted


def test_another_number_of_streams():
    rig = SingleLayer(TEXT, *arrays(2, 3), tops=2)
    rig.reshape(*arrays(5, 3))
    expected = SingleLayer(TEXT, *arrays(5, 3), tops=2).forward()
    np.testing.assert_array_equal(rig.forward(), expected)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([(2, 3), (1, 2, 12), (1, 2)], r"3 == bottom\[0\]->num_axes\(\) \(3 vs. 2\)"),
        ([(1, 2, 3), (1, 2, 12), (1, 2, 1)], r"2 == bottom\[2\]->num_axes\(\) \(2 vs. 3\)"),
        ([(2, 2, 3), (1, 2, 12), (1, 2)], r"1 == bottom\[0\]->shape\(0\) \(1 vs. 2\)"),
        ([(1, 2, 3), (1, 4, 12), (1, 2)], r"num_instances == bottom\[1\]->shape\(1\) \(2 vs. 4\)"),
        ([(1, 2, 3), (1, 2, 9), (1, 2)], r"4 \* hidden_dim_ == bottom\[1\]->shape\(2\) \(12 vs. 9\)"),
    ],
)
def test_shapes_that_do_not_fit(shapes, message):
    with pytest.raises(FatalError, match=message):
        SingleLayer(TEXT, *(np.ones(shape) for shape in shapes), tops=2)


def test_cont_has_no_gradient():
    rig = SingleLayer(TEXT, *arrays(4, 3), tops=2)
    tops = rig.forward()
    with pytest.raises(FatalError, match="Cannot backpropagate to sequence indicators."):
        rig.backward(*tops)
    assert [rig.layer.allow_force_backward(i) for i in range(3)] == [True, True, False]
