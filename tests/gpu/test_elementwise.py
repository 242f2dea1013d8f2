"""Element-wise layers on the GPU: the formulas and gradients of tests/layers/test_elementwise.py."""

from __future__ import annotations

import numpy as np
import pytest

from caffetools.layer import TEST
from tests.layers.gradient import SingleLayer, away_from, check_gradient, uniform
from tests.layers.test_elementwise import IN_PLACE, WITH_GRADIENT, each

SHAPE = (2, 3, 2)


@each(IN_PLACE, "in_place")
def test_formula(kind, param, formula, kinks, limits, in_place, engine):
    x = uniform(*SHAPE, low=limits[0], high=limits[1])
    (y,) = SingleLayer(f'type: "{kind}" {param}', x, in_place=in_place, engine=engine).forward()
    np.testing.assert_allclose(y, formula(np.float64(x)), rtol=1e-5, atol=1e-6)


@each(WITH_GRADIENT, "in_place")
def test_gradient(kind, param, formula, kinks, limits, in_place, engine):
    x = away_from(kinks, *SHAPE, low=limits[0], high=limits[1])
    check_gradient(f'type: "{kind}" {param}', x, in_place=in_place, engine=engine, samples=6)


@pytest.mark.parametrize("kind", ["BNLL", "Clip", "ELU", "ReLU", "Sigmoid", "Swish", "TanH"])
def test_nan_and_large_values_pass(kind, engine):
    param = "clip_param { min: -5 max: 5 }" if kind == "Clip" else ""
    x = np.array([np.nan, 1000, -1000, 1], np.float32)
    results = []
    for where in (None, engine):
        rig = SingleLayer(f'type: "{kind}" {param}', x, engine=where)
        results.append((rig.forward()[0], rig.backward(np.ones_like(x))[0]))
    for expected, actual in zip(*results, strict=True):
        np.testing.assert_allclose(actual[1:], expected[1:], rtol=1e-5)
    assert np.isnan(results[1][0][0])


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("shared", ["true", "false"])
def test_prelu(in_place, shared, engine):
    x = away_from([0], 2, 3, 2)
    text = f'type: "PReLU" prelu_param {{ channel_shared: {shared} filler {{ type: "uniform" min: 0.1 max: 0.9 }} }}'
    check_gradient(text, x, in_place=in_place, engine=engine, samples=6)


@pytest.mark.parametrize("in_place", [False, True])
def test_dropout_draws_the_masks_of_the_cpu(in_place, engine):
    x = uniform(3, 7)
    text = 'type: "Dropout" dropout_param { dropout_ratio: 0.4 }'
    cpu, gpu = (SingleLayer(text, x, in_place=in_place, engine=where) for where in (None, engine))
    masks = []
    for _ in range(2):
        (expected,), (actual,) = cpu.forward(), gpu.forward()
        np.testing.assert_allclose(actual, expected, rtol=1e-6)
        np.testing.assert_allclose(gpu.backward(x)[0], cpu.backward(x)[0], rtol=1e-6)
        masks.append(actual == 0)
    assert (masks[0] != masks[1]).any()


def test_dropout_passes_all_in_tests(engine):
    x = uniform(3, 7)
    (y,) = SingleLayer('type: "Dropout"', x, phase=TEST, engine=engine).forward()
    np.testing.assert_array_equal(y, np.float32(x))
