"""Update rules against their formulas in NumPy, in float64, on random parameters."""

from __future__ import annotations

import numpy as np
import pytest

from caffetools.glog import FatalError
from caffetools.proto import caffe_pb2
from caffetools.solver.rules import BLOCK, RULES, block_table, squares_of_blocks

COUNTS = [5, BLOCK + 3, 1]
OFFSETS = [0, 16, 16 + BLOCK + 16]
SIZE = OFFSETS[-1] + 16
RATES = np.array([0.1, 0.2, 0.0])
DECAYS = np.array([0.01, 0.0, 0.5])
PARAM = {"momentum": 0.9, "momentum2": 0.99, "delta": 1e-3, "rms_decay": 0.95}


def sgd(w, g, h, a, it):
    h[0] = 0.9 * h[0] + a * g
    return h[0]


def nesterov(w, g, h, a, it):
    old = h[0].copy()
    h[0] = 0.9 * old + a * g
    return 1.9 * h[0] - 0.9 * old


def adagrad(w, g, h, a, it):
    h[0] += g**2
    return a * g / (np.sqrt(h[0]) + 1e-3)


def rmsprop(w, g, h, a, it):
    h[0] = 0.95 * h[0] + 0.05 * g**2
    return a * g / (np.sqrt(h[0]) + 1e-3)


def adadelta(w, g, h, a, it):
    h[0] = 0.9 * h[0] + 0.1 * g**2
    v = g * np.sqrt((h[1] + 1e-3) / (h[0] + 1e-3))
    h[1] = 0.9 * h[1] + 0.1 * v**2
    return a * v


def adam(w, g, h, a, it):
    h[0] = 0.9 * h[0] + 0.1 * g
    h[1] = 0.99 * h[1] + 0.01 * g**2
    return a * np.sqrt(1 - 0.99 ** (it + 1)) / (1 - 0.9 ** (it + 1)) * h[0] / (np.sqrt(h[1]) + 1e-3)


FORMULAS = {
    "SGD": sgd,
    "Nesterov": nesterov,
    "AdaGrad": adagrad,
    "RMSProp": rmsprop,
    "AdaDelta": adadelta,
    "Adam": adam,
}


@pytest.mark.parametrize("l1", [False, True])
@pytest.mark.parametrize("name", sorted(RULES))
def test_three_steps(name, l1):
    random = np.random.default_rng(0)
    rule, param = RULES[name], caffe_pb2.SolverParameter(**PARAM)
    w = random.standard_normal(SIZE).astype(np.float32)
    h = np.zeros((rule.histories, SIZE), np.float32)
    expected_w, expected_h = w.astype(np.float64), h.astype(np.float64)
    blocks = block_table(OFFSETS, COUNTS)
    for it in range(3):
        g = random.standard_normal(SIZE).astype(np.float32)
        gradient = g.astype(np.float64)
        hyper = np.array(rule.hyper(param, it), np.float32)
        rule.kernel(
            w, g, h, blocks, np.float32(0.5), RATES.astype(np.float32), DECAYS.astype(np.float32), l1, hyper
        )
        for offset, count, rate, decay in zip(OFFSETS, COUNTS, RATES, DECAYS, strict=True):
            s = slice(offset, offset + count)
            penalty = np.sign(expected_w[s]) if l1 else expected_w[s]
            step = FORMULAS[name](
                expected_w[s], 0.5 * gradient[s] + decay * penalty, expected_h[:, s], rate, it
            )
            expected_w[s] -= step
            np.testing.assert_allclose(g[s], step, rtol=2e-4, atol=1e-6)
    np.testing.assert_allclose(w, expected_w, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(h, expected_h, rtol=1e-4, atol=1e-5)


def test_blocks_cover_each_parameter_once():
    blocks = block_table(OFFSETS, COUNTS)
    covered = np.zeros(SIZE, int)
    for start, end, i in blocks:
        covered[start:end] += 1
        assert OFFSETS[i] <= start < end <= OFFSETS[i] + COUNTS[i]
    assert covered.sum() == sum(COUNTS)
    assert covered.max() == 1


def test_squares_of_blocks():
    g = np.random.default_rng(1).standard_normal(SIZE).astype(np.float32)
    blocks = block_table([0], [SIZE])
    sums = np.zeros(len(blocks))
    squares_of_blocks(g, blocks, sums)
    assert sums.sum() == pytest.approx(float((g.astype(np.float64) ** 2).sum()), rel=1e-12)


@pytest.mark.parametrize(
    ("name", "fields", "words"),
    [
        ("AdaGrad", {"momentum": 0.9}, "Momentum cannot be used with AdaGrad."),
        ("RMSProp", {"momentum": 0.9}, "Momentum cannot be used with RMSProp."),
        ("RMSProp", {"rms_decay": 1.0}, "rms_decay should lie between 0 and 1."),
        ("RMSProp", {"rms_decay": -0.1}, "rms_decay should lie between 0 and 1."),
    ],
)
def test_refused_settings(name, fields, words):
    with pytest.raises(FatalError, match=words):
        RULES[name].check(caffe_pb2.SolverParameter(**fields))
