"""The learning rate of every iteration, known before a run is started."""

from __future__ import annotations

import numpy as np

from caffetools.glog import fatal, warning
from caffetools.proto import caffe_pb2
from caffetools.solver import policies

#: The fields that a policy computes with. One that is missing counts as zero: the rate is then seldom the one meant.
FIELDS = {
    "fixed": (),
    "step": ("gamma", "stepsize"),
    "exp": ("gamma",),
    "inv": ("gamma", "power"),
    "multistep": ("gamma", "stepvalue"),
    "poly": ("power", "max_iter"),
    "sigmoid": ("gamma", "stepsize"),
}
#: Between two jumps the rate is smooth: so many points draw any of them.
POINTS = 1000


def missing_fields(param: caffe_pb2.SolverParameter) -> list[str]:
    """Return the fields that the policy of a solver computes with and that its file does not set."""
    needed = ("base_lr", *FIELDS[param.lr_policy])
    given = {descriptor.name for descriptor, _ in param.ListFields()}
    return [name for name in needed if name not in given]


def schedule(param: caffe_pb2.SolverParameter, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return iterations from 0 to the last, max_iter - 1, and their learning rates; every jump is among them.

    name: the solver's file, for messages. Warns of fields that the policy needs and the file does not set. Errors:
    FatalError for an unknown policy, for a file without max_iter, and for values that the policy itself refuses.
    """
    if not param.lr_policy:
        fatal(f"{name} has no lr_policy (known policies: {', '.join(sorted(policies.POLICIES))})")
    policies.check_policy(param)
    if param.max_iter <= 0:
        fatal(f"{name} has no max_iter: there is no telling where its schedule ends")
    for field in missing_fields(param):
        warning(
            f'{name}: lr_policy "{param.lr_policy}" computes with {field}, which is not set and counts as 0'
        )
    step, rates = 0, []
    iterations = _iterations(param)
    for it in iterations:
        step = policies.advance_step(param, it, step)
        rates.append(policies.learning_rate(param, it, step))
    return np.array(iterations), np.array(rates)


def describe(param: caffe_pb2.SolverParameter) -> str:
    """Return the policy and its numbers in a line, such as `step: base_lr 0.01, gamma 0.1, stepsize 100000`."""
    texts = []
    for field in dict.fromkeys(("base_lr", *FIELDS[param.lr_policy])):
        value = getattr(param, field)
        number = f"{value:g}" if isinstance(value, float) else str(value)
        texts.append(f"{field} {', '.join(map(str, value)) if field == 'stepvalue' else number}")
    return f"{param.lr_policy}: {', '.join(texts)}"


def _iterations(param):
    """Return evenly spaced iterations, and with them those around each jump.

    Where several steps are due at once, multistep takes one an iteration: as many follow each value.
    """
    last = param.max_iter - 1
    chosen = {round(it) for it in np.linspace(0, last, min(POINTS, param.max_iter))}
    if param.lr_policy == "step" and param.stepsize > 0 and last // param.stepsize < POINTS:
        chosen |= {jump + i for jump in range(0, last + 1, param.stepsize) for i in (-1, 0)}
    if param.lr_policy == "multistep":
        chosen |= {jump + i for jump in param.stepvalue for i in range(-1, len(param.stepvalue))}
    return sorted(it for it in chosen if 0 <= it <= last)
