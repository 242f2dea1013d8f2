"""Dropout: how much it drops, the same mask in both passes, and exact resume."""

from __future__ import annotations

import numpy as np
import pytest

from caffetools.glog import FatalError
from caffetools.layer import TEST
from tests.layers.gradient import SingleLayer, check_gradient, uniform


def text_of(ratio):
    return f'type: "Dropout" dropout_param {{ dropout_ratio: {ratio} }}'


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.9])
def test_drops_its_share_and_scales_the_rest(ratio):
    rig = SingleLayer(text_of(ratio), np.ones((100, 100)))
    for _ in range(3):
        (y,) = rig.forward()
        np.testing.assert_allclose(np.unique(y), [0, 1 / (1 - ratio)], rtol=1e-6)
        # Four standard deviations of the share among 10,000.
        assert abs((y == 0).mean() - ratio) < 4 * np.sqrt(ratio * (1 - ratio)) / 100


def test_the_default_ratio_is_a_half():
    (y,) = SingleLayer('type: "Dropout"', np.ones((100, 100))).forward()
    assert set(np.unique(y)) == {0, 2}


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("shape", [(4, 5), (2, 3, 4, 1), (1,)])
def test_gradient(shape, in_place):
    check_gradient(text_of(0.4), uniform(*shape), in_place=in_place)


@pytest.mark.parametrize("in_place", [False, True])
def test_backward_uses_the_mask_of_the_last_forward_pass(in_place):
    rig = SingleLayer(text_of(0.5), np.ones((20, 50)), in_place=in_place)
    masks = []
    for _ in range(3):
        (y,) = rig.forward()
        (dx,) = rig.backward(np.ones_like(y))
        np.testing.assert_array_equal(dx, y)
        masks.append(y)
    assert (masks[0] != masks[1]).any()
    assert (masks[1] != masks[2]).any()


@pytest.mark.parametrize("in_place", [False, True])
def test_the_test_phase_passes_everything(in_place):
    x = uniform(3, 4).astype(np.float32)
    rig = SingleLayer(text_of(0.5), x, in_place=in_place, phase=TEST)
    np.testing.assert_array_equal(rig.forward()[0], x)
    np.testing.assert_array_equal(rig.backward(x)[0], x)


def test_seeds_and_layers_differ_and_the_same_seed_repeats():
    x = np.ones((10, 100))
    first = SingleLayer(text_of(0.5), x, seed=1).forward()[0]
    np.testing.assert_array_equal(SingleLayer(text_of(0.5), x, seed=1).forward()[0], first)
    assert (SingleLayer(text_of(0.5), x, seed=2).forward()[0] != first).any()


def test_resumes_in_a_layer_of_another_seed():
    x = np.ones((10, 100))
    rig = SingleLayer(text_of(0.5), x, seed=1)
    rig.forward()
    state = rig.layer.get_state()
    expected = [rig.forward()[0] for _ in range(2)]
    other = SingleLayer(text_of(0.5), x, seed=2)
    other.layer.set_state(state)
    np.testing.assert_array_equal([other.forward()[0] for _ in range(2)], expected)


def test_nan_stays_visible():
    (y,) = SingleLayer(text_of(0.5), np.full(1000, np.nan)).forward()
    assert np.isnan(y).all()


@pytest.mark.parametrize("ratio", [1, 1.5, -0.1])
def test_refuses_ratios_outside_zero_to_one(ratio):
    with pytest.raises(FatalError, match=f"dropout_ratio is {ratio:g}"):
        SingleLayer(text_of(ratio), np.ones(3))
