"""Update rules: what a solver type does with a gradient, as one pass over all parameters.

With the gradient g after scaling and decay, the local rate a = rate * lr_mult, the history h (h1, h2) and w -= u:

    SGD       h = momentum h + a g                                   u = h
    Nesterov  h' = momentum h + a g                                  u = (1 + momentum) h' - momentum h
    AdaGrad   h = h + g^2                                            u = a g / (sqrt(h) + delta)
    RMSProp   h = d h + (1 - d) g^2                                  u = a g / (sqrt(h) + delta)
    AdaDelta  h1 = m h1 + (1 - m) g^2,  v = g sqrt((h2 + delta) / (h1 + delta)),  h2 = m h2 + (1 - m) v^2,  u = a v
    Adam      h1 = b1 h1 + (1 - b1) g,  h2 = b2 h2 + (1 - b2) g^2    u = a c h1 / (sqrt(h2) + delta)
              with c = sqrt(1 - b2^t) / (1 - b1^t) in step t = 1, 2, ...

The rate is part of the SGD and Nesterov history, so a falling rate does not rescale past steps (as in the original).
Decoupled weight decay (AdamW, SGDW: Loshchilov and Hutter, Decoupled Weight Decay Regularization, 2019) is not part of
g: w *= 1 - a * decay before the pass, with the decay of each parameter.

After the pass the diffs hold u, as in the original, whose snapshots with `snapshot_diff` show them.

The parameters lie in one flat buffer; a table of blocks cuts it into pieces of at most BLOCK elements, each within one
parameter: (start, end, parameter).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numba
import numpy as np

from caffetools.engine.cpu.jit import kernel, parallel_kernel
from caffetools.engine.cpu.sums import wide_squares
from caffetools.glog import check_eq, check_ge, check_lt, fatal
from caffetools.proto import caffe_pb2
from caffetools.solver.names import check_known

BLOCK = 8192


def block_table(offsets, counts) -> np.ndarray:
    """Return the (blocks, 3) int64 table for parameters of these counts at these offsets."""
    rows = [
        (offset + start, offset + min(start + BLOCK, count), i)
        for i, (offset, count) in enumerate(zip(offsets, counts, strict=True))
        for start in range(0, count, BLOCK)
    ]
    return np.array(rows, np.int64).reshape(-1, 3)


@parallel_kernel
def squares_of_blocks(g, blocks, sums):
    """Write the sum of squares of each block, in float64: their total does not depend on the threads."""
    for b in numba.prange(blocks.shape[0]):
        sums[b] = wide_squares(g[blocks[b, 0] : blocks[b, 1]])


@parallel_kernel
def decay_weights(w, blocks, factors):
    """Multiply each parameter by its factor."""
    for b in numba.prange(blocks.shape[0]):
        factor = factors[blocks[b, 2]]
        for i in range(blocks[b, 0], blocks[b, 1]):
            w[i] *= factor


@kernel
def gradient(w, g, scale, decay, l1):
    """Return the scaled gradient with its weight decay: L2 adds decay * w, L1 adds decay * sign(w)."""
    zero, one = w.dtype.type(0), w.dtype.type(1)
    for i in range(g.size):
        v = g[i] * scale
        if l1:
            s = one if w[i] > zero else (-one if w[i] < zero else zero)
            g[i] = v + decay * s
        else:
            g[i] = v + decay * w[i]


@parallel_kernel
def sgd(w, g, h, blocks, scale, rates, decays, l1, hyper):
    momentum = hyper[0]
    for b in numba.prange(blocks.shape[0]):
        s, e, p = blocks[b, 0], blocks[b, 1], blocks[b, 2]
        wb, gb, hb = w[s:e], g[s:e], h[0, s:e]
        gradient(wb, gb, scale, decays[p], l1)
        a = rates[p]
        for i in range(wb.size):
            u = momentum * hb[i] + a * gb[i]
            hb[i] = u
            gb[i] = u
            wb[i] -= u


@parallel_kernel
def nesterov(w, g, h, blocks, scale, rates, decays, l1, hyper):
    momentum = hyper[0]
    one = w.dtype.type(1)
    for b in numba.prange(blocks.shape[0]):
        s, e, p = blocks[b, 0], blocks[b, 1], blocks[b, 2]
        wb, gb, hb = w[s:e], g[s:e], h[0, s:e]
        gradient(wb, gb, scale, decays[p], l1)
        a = rates[p]
        for i in range(wb.size):
            old = hb[i]
            new = momentum * old + a * gb[i]
            hb[i] = new
            u = (one + momentum) * new - momentum * old
            gb[i] = u
            wb[i] -= u


@parallel_kernel
def adagrad(w, g, h, blocks, scale, rates, decays, l1, hyper):
    delta = hyper[0]
    for b in numba.prange(blocks.shape[0]):
        s, e, p = blocks[b, 0], blocks[b, 1], blocks[b, 2]
        wb, gb, hb = w[s:e], g[s:e], h[0, s:e]
        gradient(wb, gb, scale, decays[p], l1)
        a = rates[p]
        for i in range(wb.size):
            hb[i] += gb[i] * gb[i]
            u = a * gb[i] / (np.sqrt(hb[i]) + delta)
            gb[i] = u
            wb[i] -= u


@parallel_kernel
def rmsprop(w, g, h, blocks, scale, rates, decays, l1, hyper):
    delta, keep = hyper[0], hyper[1]
    one = w.dtype.type(1)
    for b in numba.prange(blocks.shape[0]):
        s, e, p = blocks[b, 0], blocks[b, 1], blocks[b, 2]
        wb, gb, hb = w[s:e], g[s:e], h[0, s:e]
        gradient(wb, gb, scale, decays[p], l1)
        a = rates[p]
        for i in range(wb.size):
            hb[i] = keep * hb[i] + (one - keep) * gb[i] * gb[i]
            u = a * gb[i] / (np.sqrt(hb[i]) + delta)
            gb[i] = u
            wb[i] -= u


@parallel_kernel
def adadelta(w, g, h, blocks, scale, rates, decays, l1, hyper):
    delta, keep = hyper[0], hyper[1]
    one = w.dtype.type(1)
    for b in numba.prange(blocks.shape[0]):
        s, e, p = blocks[b, 0], blocks[b, 1], blocks[b, 2]
        wb, gb, h1, h2 = w[s:e], g[s:e], h[0, s:e], h[1, s:e]
        gradient(wb, gb, scale, decays[p], l1)
        a = rates[p]
        for i in range(wb.size):
            h1[i] = keep * h1[i] + (one - keep) * gb[i] * gb[i]
            v = gb[i] * np.sqrt((h2[i] + delta) / (h1[i] + delta))
            h2[i] = keep * h2[i] + (one - keep) * v * v
            gb[i] = a * v
            wb[i] -= a * v


@parallel_kernel
def adam(w, g, h, blocks, scale, rates, decays, l1, hyper):
    delta, b1, b2, correction = hyper[0], hyper[1], hyper[2], hyper[3]
    one = w.dtype.type(1)
    for b in numba.prange(blocks.shape[0]):
        s, e, p = blocks[b, 0], blocks[b, 1], blocks[b, 2]
        wb, gb, h1, h2 = w[s:e], g[s:e], h[0, s:e], h[1, s:e]
        gradient(wb, gb, scale, decays[p], l1)
        a = rates[p] * correction
        for i in range(wb.size):
            h1[i] = b1 * h1[i] + (one - b1) * gb[i]
            h2[i] = b2 * h2[i] + (one - b2) * gb[i] * gb[i]
            u = a * h1[i] / (np.sqrt(h2[i]) + delta)
            gb[i] = u
            wb[i] -= u


@dataclass(frozen=True)
class Rule:
    """One solver type: its kernel, how many history values a parameter has, and what it takes from the solver file.

    hyper(param, it) gives the numbers the kernel calls `hyper`; check(param) refuses what the type cannot do.
    """

    kernel: Callable
    histories: int
    hyper: Callable[[caffe_pb2.SolverParameter, int], tuple[float, ...]]
    check: Callable[[caffe_pb2.SolverParameter], None] = lambda param: None


def _momentum(param, it):
    return (param.momentum,)


def _no_momentum(name):
    def check(param):
        check_eq(0, param.momentum, "0 == this->param_.momentum()", f"Momentum cannot be used with {name}.")

    return check


def _check_rmsprop(param):
    _no_momentum("RMSProp")(param)
    check_ge(param.rms_decay, 0, "this->param_.rms_decay() >= 0", "rms_decay should lie between 0 and 1.")
    check_lt(param.rms_decay, 1, "this->param_.rms_decay() < 1", "rms_decay should lie between 0 and 1.")


def _adam(param, it):
    b1, b2, t = param.momentum, param.momentum2, it + 1
    return param.delta, b1, b2, np.sqrt(1 - b2**t) / (1 - b1**t)


RULES: dict[str, Rule] = {
    "AdaDelta": Rule(adadelta, 2, lambda param, it: (param.delta, param.momentum)),
    "AdaGrad": Rule(adagrad, 1, lambda param, it: (param.delta,), _no_momentum("AdaGrad")),
    "Adam": Rule(adam, 2, _adam),
    "Nesterov": Rule(nesterov, 1, _momentum),
    "RMSProp": Rule(rmsprop, 1, lambda param, it: (param.delta, param.rms_decay), _check_rmsprop),
    "SGD": Rule(sgd, 1, _momentum),
}

REGULARIZATIONS = ("L1", "L2")
#: Rules whose decay is beside the gradient, by the names that others give them.
_DECOUPLED = {"AdamW": "Adam", "SGDW": "SGD"}


def rule_of(param: caffe_pb2.SolverParameter) -> Rule:
    """Return the rule of a solver file. Errors: FatalError for unknown types and for settings that they cannot do."""
    if param.type in _DECOUPLED:
        fatal(f'Unknown solver type: {param.type} is type: "{_DECOUPLED[param.type]}" with decoupled_decay: true')
    check_known("solver type", param.type, RULES, "types")
    check_known("regularization type", param.regularization_type, REGULARIZATIONS, "types")
    rule = RULES[param.type]
    rule.check(param)
    return rule
