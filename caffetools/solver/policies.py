"""Learning-rate policies: the rate of iteration `it`, in float32 as the original computes it.

fixed      base_lr
step       base_lr * gamma ^ current_step, which is floor(it / stepsize)
exp        base_lr * gamma ^ it
inv        base_lr * (1 + gamma * it) ^ -power
multistep  base_lr * gamma ^ current_step, which rises where it reaches stepvalue[current_step]
poly       base_lr * (1 - it / max_iter) ^ power
sigmoid    base_lr / (1 + exp(-gamma * (it - stepsize)))
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from caffetools.glog import check_ge, check_gt, fatal, info
from caffetools.proto import caffe_pb2

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
    # A float32 negative base gives NaN in a power: past max_iter the rate stays at zero instead.
    return _f(param.base_lr) * max(_f(1) - _f(it) / _f(param.max_iter), _f(0)) ** _f(param.power)


def sigmoid(param, it, step):
    # The checks forbid the negative gamma with which the rate would fall; the original has them, so they stay.
    check_ge(param.gamma, 0, "this->param_.gamma() >= 0", "lr_policy sigmoid needs gamma")
    check_gt(param.stepsize, 0, "this->param_.stepsize() > 0", "lr_policy sigmoid needs stepsize")
    return _f(param.base_lr) * (_f(1) / (_f(1) + np.exp(-_f(param.gamma) * _f(it - param.stepsize))))


Policy = Callable[["caffe_pb2.SolverParameter", int, int], np.float32]

POLICIES: dict[str, Policy] = {
    "fixed": fixed,
    "step": step_policy,
    "exp": exp,
    "inv": inv,
    "multistep": multistep,
    "poly": poly,
    "sigmoid": sigmoid,
}


def check_policy(param: caffe_pb2.SolverParameter) -> None:
    """Refuse an unknown policy before the first iteration; the original said so only at the first update."""
    if param.lr_policy not in POLICIES:
        fatal(
            f"Unknown learning rate policy: {param.lr_policy} (known policies: {', '.join(sorted(POLICIES))})"
        )


def advance_step(param: caffe_pb2.SolverParameter, it: int, step: int) -> int:
    """Return the index of the step that iteration `it` is in, which snapshots keep as `current_step`.

    With `multistep` it rises by at most one an iteration. Policies without steps leave it alone.
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
    return _f(POLICIES[param.lr_policy](param, it, step))
