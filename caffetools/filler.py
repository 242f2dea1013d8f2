"""Fillers: the initial values of parameters and of DummyData, drawn from the run's random source.

n, the number that scales `xavier` and `msra`, is the fan-in `count / shape[0]`, the fan-out `count / shape[1]` or their
mean (variance_norm). Fan-in and fan-out are the original's: for an InnerProduct weight (out, in) they are in and out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil, prod, sqrt

import numpy as np

from caffetools.glog import check, fatal
from caffetools.proto import caffe_pb2

Filler = Callable[["caffe_pb2.FillerParameter", tuple, np.random.Generator], np.ndarray]


def constant(param, shape, random):
    return np.full(shape, param.value)


def uniform(param, shape, random):
    return random.uniform(param.min, param.max, shape)


def gaussian(param, shape, random):
    """Normal values; with `sparse` = s, every weight is kept with probability s / num_outputs, else zero."""
    values = random.normal(param.mean, param.std, shape)
    if param.sparse >= 0:
        check(len(shape) >= 1, "blob->num_axes() >= 1", "a sparse gaussian filler needs a blob with at least one axis")
        values *= random.random(shape) < param.sparse / shape[0]
    return values


def positive_unitball(param, shape, random):
    """Uniform values in [0, 1), every row (first axis) scaled to the sum 1."""
    values = random.random(shape)
    rows = values.reshape(shape[0], -1) if values.size else values
    rows /= rows.sum(axis=-1, keepdims=True)
    return values


def xavier(param, shape, random):
    """Glorot and Bengio 2010: uniform in [-a, a] with a = sqrt(3 / n)."""
    a = sqrt(3.0 / _fan(param, shape))
    return random.uniform(-a, a, shape)


def msra(param, shape, random):
    """He et al. 2015: normal with standard deviation sqrt(2 / n)."""
    return random.normal(0.0, sqrt(2.0 / _fan(param, shape)), shape)


def bilinear(param, shape, random):
    """Interpolation weights for a Deconvolution that enlarges: every (n, c) plane holds the same tent."""
    check(len(shape) == 4, "blob->num_axes() == 4", "Blob must be 4 dim.")
    check(shape[2] == shape[3], "blob->width() == blob->height()", "Filter must be square")
    size = shape[3]
    f = ceil(size / 2)
    tent = 1 - np.abs(np.arange(size) / f - (size - 1) / (2.0 * f))
    return np.broadcast_to(np.outer(tent, tent), shape)


FILLERS: dict[str, Filler] = {
    f.__name__: f for f in (constant, uniform, gaussian, positive_unitball, xavier, msra, bilinear)
}


def _fan(param, shape: Sequence[int]) -> float:
    count = prod(shape)
    # A parameter of fewer than two axes counts as one with trailing sizes of 1.
    fan_in = count / (shape[0] if shape else 1)
    fan_out = count / (shape[1] if len(shape) > 1 else 1)
    norms = caffe_pb2.FillerParameter
    return {norms.FAN_IN: fan_in, norms.FAN_OUT: fan_out, norms.AVERAGE: (fan_in + fan_out) / 2}[param.variance_norm]


def fill(param: caffe_pb2.FillerParameter, array: np.ndarray, random: np.random.Generator) -> None:
    """Write initial values into `array`.

    Errors: an unknown filler name, `sparse` with another filler than gaussian, a shape that the filler cannot fill.
    """
    if param.type not in FILLERS:
        fatal(f"Unknown filler name: {param.type} (known fillers: {', '.join(sorted(FILLERS))})")
    if param.sparse != -1 and param.type != "gaussian":
        check(False, "this->filler_param_.sparse() == -1", f"Sparsity not supported by this Filler. ({param.type})")
    array[...] = FILLERS[param.type](param, array.shape, random)
