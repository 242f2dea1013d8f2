"""Sums in the order that `sums` describes: against exact sums, and against the same order in NumPy, bit by bit."""

from __future__ import annotations

import math

import numpy as np
import pytest

from caffetools.engine.cpu import sums

SIZES = [0, 1, 7, 15, 16, 17, 49, 63, 64, 65, 200, 784]
MEAN = np.float32(0.25)
#: name, more arguments, the terms of the sums.
CASES = [
    ("total", 0, False, lambda x: [x]),
    ("dot", 1, False, lambda x, y: [x * y]),
    ("dot_below", 1, False, lambda x, y: [np.where(y > 0, 0, x * y)]),
    ("squares", 0, True, lambda x, mean: [(x - mean) ** 2]),
    ("total_and_dot", 1, True, lambda x, y, mean: [x, x * (y - mean)]),
    ("wide_squares", 0, False, lambda x: [x * x]),
]
IDS = [name for name, *_ in CASES]


def arguments_of(more, mean, size, dtype, coarse=False):
    rng = np.random.default_rng(3)
    arrays = [rng.integers(-2047, 2048, size) / 256 if coarse else rng.standard_normal(size) for _ in range(1 + more)]
    return [array.astype(dtype) for array in arrays] + [dtype(MEAN)] * mean


def in_order(terms):
    """Sum up as the module says, in the type of the terms."""
    partial = np.zeros((4, 16), terms.dtype)
    whole, last = terms.size // 64 * 64, terms.size // 16 * 16
    for first in range(0, whole, 64):
        partial += terms[first : first + 64].reshape(4, 16)
    for first in range(whole, last, 16):
        partial[0] += terms[first : first + 16]
    partial[3, : terms.size - last] += terms[last:]
    lanes = (partial[0] + partial[1]) + (partial[2] + partial[3])
    while lanes.size > 1:
        lanes = lanes[: lanes.size // 2] + lanes[lanes.size // 2 :]
    return lanes[0]


@pytest.mark.parametrize(("name", "more", "mean", "terms"), CASES, ids=IDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_against_exact_sums(name, more, mean, terms, dtype):
    for size in SIZES:
        arguments = arguments_of(more, mean, size, dtype)
        results = np.ravel(getattr(sums, name)(*arguments))
        wide = name == "wide_squares" or dtype == np.float64
        for result, term in zip(results, terms(*(np.float64(a) for a in arguments)), strict=True):
            tolerance = (1e-15 if wide else 1e-6) * (1 + np.abs(term).sum())
            assert abs(result - math.fsum(term)) <= tolerance, size


@pytest.mark.parametrize(("name", "more", "mean", "terms"), CASES, ids=IDS)
def test_order(name, more, mean, terms):
    for size in SIZES:
        # Products of numbers of a few bits are exact, so that it does not matter whether they are rounded.
        arguments = arguments_of(more, mean, size, np.float32, coarse=name not in ("total", "wide_squares"))
        results = np.ravel(getattr(sums, name)(*arguments))
        kind = np.float64 if name == "wide_squares" else np.float32
        for result, term in zip(results, terms(*(a.astype(kind) for a in arguments)), strict=True):
            assert result == in_order(term.astype(kind)), size


@pytest.mark.parametrize(("name", "more", "mean", "terms"), CASES, ids=IDS)
def test_it_does_not_matter_where_the_numbers_lie(name, more, mean, terms):
    arguments = arguments_of(more, mean, 200, np.float32)
    expected = getattr(sums, name)(*arguments)
    for offset in (1, 5, 17):
        moved = [np.append(np.full(offset, np.nan, np.float32), a)[offset:] if np.ndim(a) else a for a in arguments]
        assert getattr(sums, name)(*moved) == expected
