"""Learning-rate policies against their formulas in float64."""

from __future__ import annotations

import math

import pytest

from caffetools.glog import FatalError
from caffetools.proto import caffe_pb2
from caffetools.solver.policies import POLICIES, advance_step, check_policy, learning_rate

FIELDS = {"base_lr": 0.05, "gamma": 0.1, "power": 0.75, "stepsize": 7, "max_iter": 40}

FORMULAS = {
    "fixed": lambda it: 0.05,
    "step": lambda it: 0.05 * 0.1 ** (it // 7),
    "exp": lambda it: 0.05 * 0.1**it,
    "inv": lambda it: 0.05 * (1 + 0.1 * it) ** -0.75,
    "poly": lambda it: 0.05 * (1 - it / 40) ** 0.75,
    "sigmoid": lambda it: 0.05 / (1 + math.exp(-0.1 * (it - 7))),
}


@pytest.mark.parametrize("policy", sorted(FORMULAS))
@pytest.mark.parametrize("it", [0, 1, 6, 7, 20, 39])
def test_rate(policy, it):
    param = caffe_pb2.SolverParameter(lr_policy=policy, **FIELDS)
    assert learning_rate(param, it, advance_step(param, it, 0)) == pytest.approx(
        FORMULAS[policy](it), rel=1e-5
    )


def test_poly_ends_at_zero():
    param = caffe_pb2.SolverParameter(lr_policy="poly", **FIELDS)
    assert learning_rate(param, 40, 0) == 0
    assert learning_rate(param, 41, 0) == 0


def test_multistep_follows_its_values():
    param = caffe_pb2.SolverParameter(lr_policy="multistep", base_lr=1, gamma=0.5, stepvalue=[3, 5])
    step, rates = 0, []
    for it in range(8):
        step = advance_step(param, it, step)
        rates.append(float(learning_rate(param, it, step)))
    assert rates == [1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.25]


def test_multistep_rises_by_one_an_iteration():
    param = caffe_pb2.SolverParameter(lr_policy="multistep", base_lr=1, gamma=0.5, stepvalue=[1, 2, 3])
    assert advance_step(param, 100, 0) == 1


def test_every_policy_is_covered():
    assert set(POLICIES) == {*FORMULAS, "multistep"}


@pytest.mark.parametrize("policy", ["", "cosine"])
def test_unknown_policy(policy):
    with pytest.raises(FatalError, match=f"Unknown learning rate policy: {policy} .*fixed, inv, multistep"):
        check_policy(caffe_pb2.SolverParameter(lr_policy=policy))


@pytest.mark.parametrize("policy", ["step", "sigmoid"])
def test_stepsize_is_needed(policy):
    with pytest.raises(FatalError, match="stepsize"):
        param = caffe_pb2.SolverParameter(lr_policy=policy, base_lr=1, gamma=0.1)
        learning_rate(param, 0, advance_step(param, 0, 0))
