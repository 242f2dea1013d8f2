"""Fillers: the initial values of parameters and of DummyData, drawn from the run's random source.

n, the number that scales `xavier`, `msra`, is the fan-in `count / shape[0]`, the fan-out `count / shape[1]`
or their mean (variance_norm). Fan-in and fan-out are the original's: for an InnerProduct weight (out, in)
they are in and out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil, prod, sqrt

import numpy as np

from caffetools.glog import check, check_ge, fatal
from caffetools.proto import caffe_pb2

Filler = Callable[["caffe_pb2.FillerParameter", np.ndarray, np.random.Generator], None]

# Values are drawn where they will stay: a large parameter has no room for a second copy.


def constant(param, array, random):
    """`value` everywhere."""
    array.fill(param.value)


def uniform(param, array, random):
    """Even values from `min` to `max`."""
    _draw_uniform(array, param.min, param.max, random)


def gaussian(param, array, random):
    """Normal values around `mean` with the standard deviation `std`.

    With `sparse` = s, every weight is kept with probability s / num_outputs, else zero.
    """
    check_ge(param.sparse, -1, "sparse >= -1", "(-1, the default, keeps every weight)")
    _draw_normal(array, param.mean, param.std, random)
    if param.sparse >= 0:
        check_ge(array.ndim, 1, "blob->num_axes() >= 1", "a sparse filler needs at least one axis")
        array *= random.random(array.shape, np.float32) < param.sparse / array.shape[0]


def positive_unitball(param, array, random):
    """Uniform values in [0, 1), every row (first axis) scaled to the sum 1."""
    _draw_uniform(array, 0, 1, random)
    rows = array.reshape(array.shape[0] if array.ndim else 1, -1)
    rows /= rows.sum(axis=1, keepdims=True)


def xavier(param, array, random):
    """Glorot and Bengio 2010: uniform in [-a, a] with a = sqrt(3 / n)."""
    a = sqrt(3.0 / _fan(param, array.shape))
    _draw_uniform(array, -a, a, random)


def msra(param, array, random):
    """He et al. 2015: normal with standard deviation sqrt(2 / n)."""
    _draw_normal(array, 0, sqrt(2.0 / _fan(param, array.shape)), random)


def bilinear(param, array, random):
    """Interpolation weights for a Deconvolution that enlarges: every (n, c) plane holds the same tent."""
    check(array.ndim == 4, "blob->num_axes() == 4", "Blob must be 4 dim.")
    height, width = array.shape[2:]
    check(width == height, "blob->width() == blob->height()", "Filter must be square")
    f = ceil(width / 2)
    tent = 1 - np.abs(np.arange(width) / f - (width - 1) / (2.0 * f))
    array[...] = np.outer(tent, tent)


FILLERS: dict[str, Filler] = {
    f.__name__: f for f in (constant, uniform, gaussian, positive_unitball, xavier, msra, bilinear)
}


def _draw_uniform(array, low, high, random):
    random.random(dtype=array.dtype, out=array)
    array *= high - low
    array += low


def _draw_normal(array, mean, std, random):
    random.standard_normal(dtype=array.dtype, out=array)
    array *= std
    array += mean


def _fan(param, shape: Sequence[int]) -> float:
    count = prod(shape)
    # A parameter of fewer than two axes counts as one with trailing sizes of 1.
    fan_in = count / (shape[0] if shape else 1)
    fan_out = count / (shape[1] if len(shape) > 1 else 1)
    norms = caffe_pb2.FillerParameter
    return {norms.FAN_IN: fan_in, norms.FAN_OUT: fan_out, norms.AVERAGE: (fan_in + fan_out) / 2}[
        param.variance_norm
    ]


def fill(param: caffe_pb2.FillerParameter, array: np.ndarray, random: np.random.Generator) -> None:
    """Write initial values into `array` (C-contiguous, float32 or float64).

    Errors: an unknown filler name, `sparse` with another filler than gaussian, a shape that cannot be filled.
    """
    if param.type not in FILLERS:
        fatal(f"Unknown filler name: {param.type} (known fillers: {', '.join(sorted(FILLERS))})")
    if param.sparse != -1 and param.type != "gaussian":
        words = f"Sparsity not supported by this Filler. ({param.type})"
        check(False, "this->filler_param_.sparse() == -1", words)
    if array.size:
        FILLERS[param.type](param, array, random)
