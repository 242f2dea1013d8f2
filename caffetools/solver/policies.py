"""Learning-rate policies: the rate of iteration `it`, in float32 as the original computes it.

fixed      base_lr
step       base_lr * gamma ^ current_step, which is floor(it / stepsize)
exp        base_lr * gamma ^ it
inv        base_lr * (1 + gamma * it) ^ -power
multistep  base_lr * gamma ^ current_step, which rises where it reaches stepvalue[current_step]
poly       min_lr + (base_lr - min_lr) * (1 - it / max_iter) ^ power
sigmoid    base_lr / (1 + exp(-gamma * (it - stepsize)))

What the original never had; these are computed in float64 and rounded once:

cosine     min_lr + (base_lr - min_lr) * (1 + cos(pi * it / max_iter)) / 2
plateau    base_lr * gamma ^ current_step, not below min_lr; current_step rises where the run stops improving
warm-up    start + (rate - start) * it / warmup_iter for it < warmup_iter, with start = warmup_start_lr and the rate
           that the policy gives for `it`

Snapshots keep current_step, so that a resumed run goes on with the same rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from caffetools.glog import check_ge, check_gt, fatal, info
from caffetools.proto import caffe_pb2
from caffetools.solver.names import check_known

_f = np.float32


def fixed(param, it, step):
    return _f(param.base_lr)


def step_policy(param, it, step):
    check_ge(param.gamma, 0, "this->param_.gamma() >= 0", "lr_policy step needs gamma")
    return _f(param.base_lr) * _f(param.gamma) ** _f(step)


def exp(param, it, step):
    check_ge(param.gamma, 0, "this->param_.gamma() >= 0", "lr_policy exp needs gamma")
    return _f(param.base_lr) * _f(param.gamma) ** _f(it)


def inv(param, it, step):
    check_ge(param.gamma, 0, "this->param_.gamma() >= 0", "lr_policy inv needs gamma")
    return _f(param.base_lr) * (_f(1) + _f(param.gamma) * _f(it)) ** -_f(param.power)


def multistep(param, it, step):
    check_ge(param.gamma, 0, "this->param_.gamma() >= 0", "lr_policy multistep needs gamma")
    return _f(param.base_lr) * _f(param.gamma) ** _f(step)


def poly(param, it, step):
    check_gt(param.max_iter, 0, "this->param_.max_iter() > 0", "lr_policy poly needs max_iter")
    # A float32 negative base gives NaN in a power: past max_iter the rate stays at its end instead.
    share = max(_f(1) - _f(it) / _f(param.max_iter), _f(0)) ** _f(param.power)
    low = _f(param.min_lr)
    return low + (_f(param.base_lr) - low) * share


def sigmoid(param, it, step):
    # The checks forbid the negative gamma with which the rate would fall; the original has them, so they stay.
    check_ge(param.gamma, 0, "this->param_.gamma() >= 0", "lr_policy sigmoid needs gamma")
    check_gt(param.stepsize, 0, "this->param_.stepsize() > 0", "lr_policy sigmoid needs stepsize")
    return _f(param.base_lr) * (_f(1) / (_f(1) + np.exp(-_f(param.gamma) * _f(it - param.stepsize))))


def cosine(param, it, step):
    check_gt(param.max_iter, 0, "this->param_.max_iter() > 0", "lr_policy cosine needs max_iter")
    angle = math.pi * min(it / param.max_iter, 1)
    return param.min_lr + (param.base_lr - param.min_lr) * (1 + math.cos(angle)) / 2


def plateau(param, it, step):
    return max(param.base_lr * param.gamma**step, param.min_lr)


Policy = Callable[["caffe_pb2.SolverParameter", int, int], np.float32]

POLICIES: dict[str, Policy] = {
    "fixed": fixed,
    "step": step_policy,
    "exp": exp,
    "inv": inv,
    "multistep": multistep,
    "poly": poly,
    "sigmoid": sigmoid,
    "cosine": cosine,
    "plateau": plateau,
}

#: The fields that a policy computes with. One that is missing counts as zero: the rate is then seldom the one meant.
FIELDS = {
    "fixed": (),
    "step": ("gamma", "stepsize"),
    "exp": ("gamma",),
    "inv": ("gamma", "power"),
    "multistep": ("gamma", "stepvalue"),
    "poly": ("power", "max_iter"),
    "sigmoid": ("gamma", "stepsize"),
    "cosine": ("max_iter",),
    "plateau": ("gamma",),
}


def missing_fields(param: caffe_pb2.SolverParameter) -> list[str]:
    """Return the fields that the policy of a solver computes with and that its file does not set."""
    given = {descriptor.name for descriptor, _ in param.ListFields()}
    return [name for name in ("base_lr", *FIELDS[param.lr_policy]) if name not in given]


def check_policy(param: caffe_pb2.SolverParameter) -> None:
    """Refuse before the first iteration what the original refused at the first update: policies that are not known, and
    settings with which they cannot compute.

    `plateau` with a gamma that does not reduce anything is refused as well.
    """
    check_known("learning rate policy", param.lr_policy, POLICIES, "policies")
    if param.lr_policy == "step":
        advance_step(param, 0, 0)
    POLICIES[param.lr_policy](param, 0, 0)
    if param.lr_policy == "plateau" and not 0 < param.gamma < 1:
        fatal(f"lr_policy plateau multiplies the rate by gamma, which must lie between 0 and 1, not be {param.gamma:g}")


def advance_step(param: caffe_pb2.SolverParameter, it: int, step: int) -> int:
    """Return the index of the step that iteration `it` is in, which snapshots keep as `current_step`.

    With `multistep` it rises by at most one an iteration. Policies without steps leave it alone, and so does
    `plateau`, whose steps the solver takes when it sees how the run goes.
    """
    if param.lr_policy == "step":
        check_gt(param.stepsize, 0, "this->param_.stepsize() > 0", "lr_policy step needs stepsize")
        return it // param.stepsize
    if param.lr_policy == "multistep" and step < len(param.stepvalue) and it >= param.stepvalue[step]:
        step += 1
        info(f"MultiStep Status: Iteration {it}, step = {step}")
    return step


def learning_rate(param: caffe_pb2.SolverParameter, it: int, step: int) -> np.float32:
    """Return the rate of iteration `it`, `step` being the index that `advance_step` gave."""
    rate = _f(POLICIES[param.lr_policy](param, it, step))
    if it < param.warmup_iter:
        start = param.warmup_start_lr
        rate = _f(start + (float(rate) - start) * it / param.warmup_iter)
    return rate
