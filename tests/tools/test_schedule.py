"""The learning rates drawn before a run: against the formulas of Caffe's documentation, in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
from google.protobuf import text_format

from caffetools.glog import FatalError
from caffetools.proto import caffe_pb2
from caffetools.tools.schedule import describe, missing_fields, schedule

LAST = 99_999
STEPS = (20_000, 20_000, 50_000)
FORMULAS = {
    'lr_policy: "fixed"': lambda it: 0.1,
    'lr_policy: "step" gamma: 0.5 stepsize: 7777': lambda it: 0.1 * 0.5 ** (it // 7777),
    'lr_policy: "exp" gamma: 0.9999': lambda it: 0.1 * 0.9999**it,
    'lr_policy: "inv" gamma: 0.0001 power: 0.75': lambda it: 0.1 * (1 + 0.0001 * it) ** -0.75,
    'lr_policy: "poly" power: 2': lambda it: 0.1 * (1 - it / 100_000) ** 2,
    'lr_policy: "sigmoid" gamma: 0.001 stepsize: 50000': lambda it: (
        0.1 / (1 + math.exp(-0.001 * (it - 50_000)))
    ),
    'lr_policy: "cosine" min_lr: 0.01': lambda it: 0.01 + 0.09 * (1 + math.cos(math.pi * it / 100_000)) / 2,
    'lr_policy: "fixed" warmup_iter: 333 warmup_start_lr: 0.02': lambda it: 0.02 + 0.08 * min(it / 333, 1),
    # Two values of 20000: the second step comes one iteration after the first.
    'lr_policy: "multistep" gamma: 0.1 stepvalue: 20000 stepvalue: 20000 stepvalue: 50000': lambda it: (
        0.1 * 0.1 ** ((it >= 20_000) + (it >= 20_001) + (it >= 50_000))
    ),
}


def solver(text):
    return text_format.Parse(text, caffe_pb2.SolverParameter())


@pytest.mark.parametrize("text", FORMULAS)
def test_rates(text):
    iterations, rates = schedule(solver(f"base_lr: 0.1 max_iter: {LAST + 1} {text}"), "solver")
    assert (iterations[0], iterations[-1]) == (0, LAST)
    expected = [FORMULAS[text](it) for it in iterations.tolist()]
    np.testing.assert_allclose(rates, expected, rtol=2e-3, atol=1e-9)


@pytest.mark.parametrize(
    ("text", "jumps"),
    [
        ('lr_policy: "step" gamma: 0.5 stepsize: 7777', range(7777, LAST, 7777)),
        (
            'lr_policy: "multistep" gamma: 0.1 stepvalue: 33 stepvalue: 20000 stepvalue: 20000',
            (33, 20_000, 20_001),
        ),
    ],
)
def test_jumps_are_drawn_where_they_are(text, jumps):
    iterations, rates = schedule(solver(f"base_lr: 0.1 max_iter: {LAST + 1} {text}"), "solver")
    changes = np.flatnonzero(np.diff(rates))
    assert iterations[changes + 1].tolist() == list(jumps)
    assert iterations[changes].tolist() == [jump - 1 for jump in jumps]


def test_a_short_run_has_every_iteration():
    iterations, _ = schedule(solver('base_lr: 1 max_iter: 5 lr_policy: "fixed"'), "solver")
    assert iterations.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ('lr_policy: "fixed"', ["base_lr"]),
        ('base_lr: 1 lr_policy: "fixed"', []),
        ('base_lr: 1 lr_policy: "inv" gamma: 1', ["power"]),
        ('base_lr: 1 lr_policy: "multistep" gamma: 1', ["stepvalue"]),
        ('base_lr: 1 lr_policy: "step"', ["gamma", "stepsize"]),
    ],
)
def test_missing_fields(text, missing):
    assert missing_fields(solver(text)) == missing


def test_a_missing_field_is_warned_of(capfd):
    schedule(solver('base_lr: 0.1 max_iter: 9 lr_policy: "poly"'), "s.prototxt")
    assert (
        's.prototxt: lr_policy "poly" computes with power, which is not set and counts as 0'
        in capfd.readouterr().err
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("base_lr: 1 max_iter: 9", "has no lr_policy"),
        ('max_iter: 9 lr_policy: "stpe"', "Unknown learning rate policy: stpe"),
        ('base_lr: 1 lr_policy: "fixed"', "no max_iter"),
        ('base_lr: 1 max_iter: 9 lr_policy: "step" gamma: 1', "needs stepsize"),
    ],
)
def test_refused(text, words):
    with pytest.raises(FatalError, match=words):
        schedule(solver(text), "solver")


def test_description():
    text = 'base_lr: 0.01 lr_policy: "multistep" gamma: 0.1 stepvalue: 5 stepvalue: 9'
    assert describe(solver(text)) == "multistep: base_lr 0.01, gamma 0.1, stepvalue 5, 9"
