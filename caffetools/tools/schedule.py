"""The learning rate of every iteration, known before a run is started."""

from __future__ import annotations

import numpy as np

from caffetools.glog import fatal, warning
from caffetools.proto import caffe_pb2
from caffetools.solver import policies
from caffetools.solver.policies import FIELDS, missing_fields

#: Between two jumps the rate is smooth: so many points draw any of them.
POINTS = 1000


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
    if param.lr_policy == "plateau":
        warning(f'{name}: lr_policy "plateau" follows the run: shown is the rate of a run that never stalls')
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
    if param.warmup_iter:
        chosen |= {param.warmup_iter - 1, param.warmup_iter}
    return sorted(it for it in chosen if 0 <= it <= last)
