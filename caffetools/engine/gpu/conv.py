"""Convolution on the device: who computes it.

A plan is made for the shapes of a layer in its `reshape`; its methods are those of the CPU's `ConvPlan`, on flat device
arrays. cuDNN computes it where it is installed, unless the layer says `engine: CAFFE`, which means kernels of our own.
Plans hold tables and no data: layers of one shape share one, and shapes that come back find theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from caffetools.engine.gpu import cudnn
from caffetools.engine.gpu.conv_weights import BiasGradient
from caffetools.engine.gpu.device import current
from caffetools.engine.gpu.own_conv import OwnConvPlan
from caffetools.glog import info
from caffetools.proto import caffe_pb2

#: Plans that are kept.
MOST_PLANS = 512

_said: set[str] = set()


def plan(
    choice: int,
    x_shape: Sequence[int],
    w_shape: Sequence[int],
    stride: Sequence[int],
    pad: Sequence[int],
    dilation: Sequence[int],
    group: int = 1,
    dtype=np.float32,
):
    """Return the plan of a convolution.

    choice: a ConvolutionParameter.Engine. The rest is as for `OwnConvPlan`.
    """
    shapes = (*map(tuple, (x_shape, w_shape, stride, pad, dilation)), group, np.dtype(dtype))
    engine = current()
    library = choice != caffe_pb2.ConvolutionParameter.CAFFE and dtype == np.float32 and 0 not in x_shape
    return _plan(library and _has_cudnn(len(x_shape) - 2), shapes, engine.precision, engine.tf32)


@lru_cache(MOST_PLANS)
def _plan(library, shapes, precision, tf32):
    # cuDNN's algorithms are chosen for a precision.
    if library:
        from caffetools.engine.gpu.cudnn_conv import CudnnPlan

        return CudnnPlan(*shapes)
    return OwnConvPlan(*shapes)


def _has_cudnn(axes):
    """Say whether cuDNN computes convolutions over so many axes; say once why not."""
    why = cudnn.why_not()
    if not why and axes > cudnn.MOST_AXES:
        why = f"it has no more than {cudnn.MOST_AXES} spatial axes"
    if why and why not in _said:
        _said.add(why)
        info(f"Convolution is computed by kernels of our own, without cuDNN: {why}")
    return not why


__all__ = ["BiasGradient", "plan"]
