"""Learning-rate policies against their formulas in float64."""

from __future__ import annotations

import math

import pytest

from caffetools.glog import FatalError
from caffetools.proto import caffe_pb2
from caffetools.solver.policies import POLICIES, advance_step, check_policy, learning_rate

FIELDS = {"base_lr": 0.05, "gamma": 0.1, "power": 0.75, "stepsize": 7, "max_iter": 40}
LOW = 0.002

FORMULAS = {
    "fixed": lambda it: 0.05,
    "step": lambda it: 0.05 * 0.1 ** (it // 7),
    "exp": lambda it: 0.05 * 0.1**it,
    "inv": lambda it: 0.05 * (1 + 0.1 * it) ** -0.75,
    "poly": lambda it: 0.05 * (1 - it / 40) ** 0.75,
    "sigmoid": lambda it: 0.05 / (1 + math.exp(-0.1 * (it - 7))),
    "cosine": lambda it: 0.05 * (1 + math.cos(math.pi * it / 40)) / 2,
    "plateau": lambda it: 0.05,  # as long as nothing stalls
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


@pytest.mark.parametrize(
    ("policy", "formula"),
    [
        ("cosine", lambda it: LOW + (0.05 - LOW) * (1 + math.cos(math.pi * it / 40)) / 2),
        ("poly", lambda it: LOW + (0.05 - LOW) * (1 - it / 40) ** 0.75),
    ],
)
@pytest.mark.parametrize("it", [0, 1, 13, 20, 39, 40])
def test_lowest_rate(policy, formula, it):
    param = caffe_pb2.SolverParameter(lr_policy=policy, min_lr=LOW, **FIELDS)
    assert learning_rate(param, it, 0) == pytest.approx(formula(it), rel=1e-5)


@pytest.mark.parametrize(("step", "rate"), [(0, 0.05), (1, 0.005), (2, 0.002), (3, 0.002)])
def test_plateau_goes_down_by_steps_to_its_lowest(step, rate):
    param = caffe_pb2.SolverParameter(lr_policy="plateau", min_lr=LOW, **FIELDS)
    assert learning_rate(param, 17, step) == pytest.approx(rate, rel=1e-6)
    assert advance_step(param, 17, step) == step


def torch_rates(make, iterations):
    """The rates that PyTorch's schedule gives; make: from an optimizer with the rate 0.05."""
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.05)
    schedule, rates = make(torch.optim.lr_scheduler, optimizer), []
    for _ in range(iterations):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


def test_cosine_is_that_of_torch():
    param = caffe_pb2.SolverParameter(lr_policy="cosine", base_lr=0.05, max_iter=40, min_lr=LOW)
    expected = torch_rates(lambda schedulers, o: schedulers.CosineAnnealingLR(o, 40, eta_min=LOW), 41)
    assert [learning_rate(param, it, 0) for it in range(41)] == pytest.approx(expected, rel=1e-6)


def test_warm_up_is_that_of_torch():
    param = caffe_pb2.SolverParameter(lr_policy="fixed", base_lr=0.05, warmup_iter=8, warmup_start_lr=0.01)
    expected = torch_rates(lambda schedulers, o: schedulers.LinearLR(o, 0.2, total_iters=8), 12)
    assert [learning_rate(param, it, 0) for it in range(12)] == pytest.approx(expected, rel=1e-6)


def test_warm_up_leads_to_the_rate_of_the_policy():
    param = caffe_pb2.SolverParameter(lr_policy="step", warmup_iter=10, **FIELDS)
    rates = [float(learning_rate(param, it, advance_step(param, it, 0))) for it in range(12)]
    expected = [0.05 * 0.1 ** (it // 7) * min(it / 10, 1) for it in range(12)]
    assert rates == pytest.approx(expected, rel=1e-6)


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


@pytest.mark.parametrize("gamma", [0, 1, 2, -0.1])
def test_plateau_needs_a_gamma_that_reduces(gamma):
    with pytest.raises(FatalError, match="gamma, which must lie between 0 and 1, not be"):
        check_policy(caffe_pb2.SolverParameter(lr_policy="plateau", gamma=gamma))


@pytest.mark.parametrize("policy", ["", "cosinus"])
def test_unknown_policy(policy):
    with pytest.raises(FatalError, match=f"Unknown learning rate policy: {policy} .*fixed, inv, multistep"):
        check_policy(caffe_pb2.SolverParameter(lr_policy=policy))


@pytest.mark.parametrize("policy", ["step", "sigmoid"])
def test_stepsize_is_needed(policy):
    with pytest.raises(FatalError, match="stepsize"):
        param = caffe_pb2.SolverParameter(lr_policy=policy, base_lr=1, gamma=0.1)
        learning_rate(param, 0, advance_step(param, 0, 0))


@pytest.mark.parametrize(
    ("policy", "fields", "missing"),
    [
        ("step", {"gamma": 0.1}, "stepsize"),
        ("sigmoid", {"gamma": 0.1}, "stepsize"),
        ("inv", {"gamma": -1}, "gamma"),
        ("cosine", {}, "max_iter"),
    ],
)
def test_a_policy_that_cannot_compute_is_refused_before_training(policy, fields, missing):
    with pytest.raises(FatalError, match=f"lr_policy {policy} needs {missing}"):
        check_policy(caffe_pb2.SolverParameter(lr_policy=policy, **fields))
