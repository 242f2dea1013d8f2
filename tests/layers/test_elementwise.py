"""The element-wise layers against NumPy formulas and numeric gradients, in place and not."""

from __future__ import annotations

import numpy as np
import pytest

from caffetools.glog import FatalError
from tests.layers.gradient import SingleLayer, away_from, check_gradient


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


# type and parameters, formula, kinks, range of x
CASES = [
    ("AbsVal", "", np.abs, [0], (-2, 2)),
    ("BNLL", "", lambda x: np.log(1 + np.exp(x)), [], (-3, 3)),
    ("Clip", "clip_param { min: -0.5 max: 0.8 }", lambda x: np.clip(x, -0.5, 0.8), [-0.5, 0.8], (-2, 2)),
    ("ELU", "", lambda x: np.where(x > 0, x, np.exp(x) - 1), [0], (-2, 2)),
    ("ELU", "elu_param { alpha: 0.3 }", lambda x: np.where(x > 0, x, 0.3 * (np.exp(x) - 1)), [0], (-2, 2)),
    ("ELU", "elu_param { alpha: -0.5 }", lambda x: np.where(x > 0, x, -0.5 * (np.exp(x) - 1)), [0], (-2, 2)),
    ("Exp", "", np.exp, [], (-2, 2)),
    ("Exp", "exp_param { base: 2 scale: 0.5 shift: 0.3 }", lambda x: 2 ** (0.3 + 0.5 * x), [], (-2, 2)),
    ("Exp", "exp_param { shift: -1.5 }", lambda x: np.exp(x - 1.5), [], (-2, 2)),
    ("Exp", "exp_param { base: 0.5 }", lambda x: 0.5**x, [], (-2, 2)),
    ("Log", "", np.log, [], (0.5, 3)),
    ("Log", "log_param { base: 10 scale: 2 shift: 0.5 }", lambda x: np.log10(0.5 + 2 * x), [], (0.2, 3)),
    ("Log", "log_param { base: 0.5 scale: -1 }", lambda x: -np.log2(-x), [], (-3, -0.5)),
    ("Power", "", lambda x: x, [], (-2, 2)),
    ("Power", "power_param { power: 2 scale: 0.5 shift: 1 }", lambda x: (1 + 0.5 * x) ** 2, [], (-3, 3)),
    ("Power", "power_param { power: 2 }", lambda x: x**2, [], (-2, 2)),
    ("Power", "power_param { power: 3 shift: 0.25 }", lambda x: (0.25 + x) ** 3, [], (-2, 2)),
    ("Power", "power_param { power: 0.5 scale: 2 shift: 1 }", lambda x: np.sqrt(1 + 2 * x), [], (0, 3)),
    ("Power", "power_param { power: -1.25 }", lambda x: x**-1.25, [], (0.5, 3)),
    ("Power", "power_param { power: 1 scale: -3 shift: 2 }", lambda x: 2 - 3 * x, [], (-2, 2)),
    ("Power", "power_param { power: 0 }", lambda x: np.ones_like(x), [], (-2, 2)),
    ("Power", "power_param { power: 2 scale: 0 shift: 3 }", lambda x: np.full_like(x, 9), [], (-2, 2)),
    ("ReLU", "", lambda x: np.maximum(x, 0), [0], (-2, 2)),
    ("ReLU", "relu_param { negative_slope: 0.1 }", lambda x: np.where(x > 0, x, 0.1 * x), [0], (-2, 2)),
    ("ReLU", "relu_param { negative_slope: -0.5 }", lambda x: np.where(x > 0, x, -0.5 * x), [0], (-2, 2)),
    ("Sigmoid", "", sigmoid, [], (-3, 3)),
    ("Swish", "", lambda x: x * sigmoid(x), [], (-3, 3)),
    ("Swish", "swish_param { beta: 1.7 }", lambda x: x * sigmoid(1.7 * x), [], (-3, 3)),
    ("TanH", "", np.tanh, [], (-2, 2)),
    ("Threshold", "threshold_param { threshold: 0.3 }", lambda x: np.float64(x > 0.3), [0.3], (-2, 2)),
]
SHAPES = [(2, 3, 5, 7), (1, 1, 1, 1), (3,), (5, 1), (), (0, 4)]

IN_PLACE = [(*case, place) for case in CASES for place in (False, True) if case[0] != "AbsVal" or not place]
WITH_GRADIENT = [case for case in IN_PLACE if case[0] != "Threshold"]
CONSTANT = [case for case in CASES if "power: 0 " in case[1] or "scale: 0 " in case[1]]


def each(cases, *names):
    """Parametrize a test over cases, named after their type and parameters."""
    ids = [" ".join([case[0], case[1], "in place" if case[-1] is True else ""]).strip() for case in cases]
    return pytest.mark.parametrize(("kind", "param", "formula", "kinks", "limits", *names), cases, ids=ids)


@each(IN_PLACE, "in_place")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_formula(kind, param, formula, kinks, limits, in_place, shape):
    x = away_from(kinks, *shape, low=limits[0], high=limits[1]).astype(np.float32)
    (y,) = SingleLayer(f'type: "{kind}" {param}', x, in_place=in_place).forward()
    assert y.shape == shape and y.dtype == np.float32
    np.testing.assert_allclose(y, formula(x.astype(np.float64)), rtol=2e-6, atol=2e-7)


@each(WITH_GRADIENT, "in_place")
def test_gradient(kind, param, formula, kinks, limits, in_place):
    x = away_from(kinks, 3, 5, low=limits[0], high=limits[1])
    check_gradient(f'type: "{kind}" {param}', x, in_place=in_place)


@each(WITH_GRADIENT, "in_place")
def test_batches_of_other_sizes(kind, param, formula, kinks, limits, in_place):
    low, high = limits
    first = away_from(kinks, 2, 3, low=low, high=high)
    rig = SingleLayer(f'type: "{kind}" {param}', first, in_place=in_place)
    rig.forward()
    for rows in (5, 1):
        x = away_from(kinks, rows, 3, low=low, high=high)
        rig.reshape(x)
        np.testing.assert_allclose(rig.forward()[0], formula(x), rtol=1e-5, atol=1e-6)
        slope = (formula(x + 1e-6) - formula(x - 1e-6)) / 2e-6
        np.testing.assert_allclose(rig.backward(np.ones_like(x))[0], slope, rtol=1e-4, atol=1e-5)


@each([case for case in CASES if case[0] != "Threshold" and case not in CONSTANT])
def test_a_nan_goes_through(kind, param, formula, kinks, limits):
    (y,) = SingleLayer(f'type: "{kind}" {param}', np.full(20, np.nan)).forward()
    assert np.isnan(y).all()


@each(CONSTANT)
def test_a_constant_does_not_depend_on_x(kind, param, formula, kinks, limits):
    x = np.array([np.nan, np.inf, 0, 1])
    rig = SingleLayer(f'type: "{kind}" {param}', x)
    np.testing.assert_array_equal(rig.forward()[0], formula(x))
    np.testing.assert_array_equal(rig.backward(np.ones(4))[0], np.zeros(4))


def test_large_arguments_stay_finite():
    """Where the function is finite, no intermediate result may overflow."""
    x = np.array([-200, -50, 50, 200], np.float32)
    for kind, expected in {
        "BNLL": [0, np.exp(-50.0), 50, 200],
        "ELU": [-1, -1, 50, 200],
        "Sigmoid": [0, np.exp(-50.0), 1, 1],
        "Swish": [0, -50 * np.exp(-50.0), 50, 200],
    }.items():
        rig = SingleLayer(f'type: "{kind}"', x)
        np.testing.assert_allclose(rig.forward()[0], expected, rtol=1e-5, atol=1e-30, err_msg=kind)
        assert np.isfinite(rig.backward(np.ones(4))[0]).all(), kind


def test_abs_val_refuses_to_work_in_place():
    with pytest.raises(FatalError, match="AbsVal Layer does not allow in-place computation."):
        SingleLayer('type: "AbsVal"', np.zeros(3), in_place=True)


def test_abs_val_has_slope_zero_at_zero():
    rig = SingleLayer('type: "AbsVal"', np.array([-2.0, 0.0, 2.0]))
    rig.forward()
    np.testing.assert_array_equal(rig.backward(np.full(3, 5.0))[0], [-5, 0, 5])


def test_clip_passes_the_gradient_at_its_limits():
    rig = SingleLayer('type: "Clip" clip_param { min: -1 max: 2 }', np.array([-1.5, -1.0, 2.0, 2.5]))
    rig.forward()
    np.testing.assert_array_equal(rig.backward(np.full(4, 3.0))[0], [0, 3, 3, 0])


def test_threshold_is_strict_and_has_no_gradient():
    rig = SingleLayer('type: "Threshold" threshold_param { threshold: 0.5 }', np.array([0.25, 0.5, 0.75]))
    np.testing.assert_array_equal(rig.forward()[0], [0, 0, 1])
    with pytest.raises(FatalError, match="Threshold Layer has no gradient"):
        rig.backward(np.ones(3))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('type: "Exp" exp_param { base: 0 }', r"base > 0 \(0 vs. 0\) base must be strictly positive."),
        ('type: "Exp" exp_param { base: -2 }', r"base must be strictly positive. \(layer 'under_test'\)"),
        ('type: "Log" log_param { base: -0.5 }', "base must be strictly positive."),
        ('type: "Log" log_param { base: 1 }', r"Inf result: 1/log\(base\) == 1/log\(1\) == inf"),
        ('type: "Clip"', r"clip_param needs min and max. \(layer 'under_test'\)"),
        ('type: "Clip" clip_param { min: 2 max: 1 }', r"min <= max \(2 vs. 1\)"),
    ],
)
def test_parameters_that_make_no_sense(text, message):
    with pytest.raises(FatalError, match=message):
        SingleLayer(text, np.ones(3))
