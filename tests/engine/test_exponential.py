"""exp and its relatives against NumPy in float64."""

from __future__ import annotations

import numpy as np
import pytest

from caffetools.engine.cpu import exponential
from caffetools.engine.cpu.jit import kernel

SPECIAL = [np.nan, np.inf, -np.inf, 0.0, 1000.0, -1000.0]
# name, formula, results for SPECIAL, largest error in units in the last place
CASES = [
    ("exp", np.exp, [np.nan, np.inf, 0, 1, np.inf, 0], 5),
    ("expm1", np.expm1, [np.nan, np.inf, -1, 0, np.inf, -1], 5),
    ("sigmoid", lambda x: 1 / (1 + np.exp(-x)), [np.nan, 1, 0, 0.5, 1, 0], 6),
    ("tanh", np.tanh, [np.nan, 1, -1, 0, 1, -1], 3),
    ("softplus", lambda x: np.logaddexp(0, x), [np.nan, np.inf, 0, np.log(2), 1000, 0], 5),
]


@kernel
def exp(x, y):
    for i in range(x.size):
        y[i] = exponential.exp(x[i])


@kernel
def expm1(x, y):
    for i in range(x.size):
        y[i] = exponential.expm1(x[i])


@kernel
def sigmoid(x, y):
    for i in range(x.size):
        y[i] = exponential.sigmoid(x[i])


@kernel
def tanh(x, y):
    for i in range(x.size):
        y[i] = exponential.tanh(x[i])


@kernel
def softplus(x, y):
    for i in range(x.size):
        y[i] = exponential.softplus(x[i])


def apply(name, x):
    y = np.empty_like(x)
    globals()[name](x, y)
    return y


def units_in_the_last_place(y, exact):
    return np.abs(y - exact) / np.spacing(np.abs(exact).astype(np.float32))


@pytest.mark.parametrize(("name", "formula", "special", "bound"), CASES)
def test_float32_is_exact_to_the_last_digits(name, formula, special, bound):
    small = 10.0 ** np.linspace(-30, 0, 5001)
    x = np.concatenate([np.linspace(-86, 88.7, 100_001), small, -small]).astype(np.float32)
    errors = units_in_the_last_place(apply(name, x), formula(x.astype(np.float64)))
    assert errors.max() < bound, f"{errors.max():.1f} units at {x[errors.argmax()]}"


@pytest.mark.parametrize(("name", "formula", "special", "bound"), CASES)
def test_float32_of_special_values(name, formula, special, bound):
    np.testing.assert_allclose(apply(name, np.array(SPECIAL, np.float32)), special, rtol=1e-6)


@pytest.mark.parametrize(("name", "formula", "special", "bound"), CASES)
def test_float64(name, formula, special, bound):
    x = np.linspace(-30, 30, 1001)
    np.testing.assert_allclose(apply(name, x), formula(x), rtol=1e-13)


def test_exp_vanishes_where_float32_ends():
    x = np.array([-86.7, -87.5, -100], np.float32)
    np.testing.assert_allclose(apply("exp", x), [0, 0, 0], atol=1.2e-38)


@pytest.mark.parametrize(("name", "formula", "special", "bound"), CASES)
def test_plain_python_gives_the_same(name, formula, special, bound):
    for x in (-1.5, 0.0, 2.5):
        assert getattr(exponential, name)(x) == pytest.approx(formula(x), rel=1e-14)
