"""Convolution on the device: who computes it.

A plan is made for the shapes of a layer in its `reshape`; its methods are those of the CPU's `ConvPlan`, on flat device
arrays. cuDNN computes it where it is installed, unless the layer says `engine: CAFFE`, which means kernels of our own.
"""

from __future__ import annotations

import numpy as np

from caffetools.engine.gpu import cudnn
from caffetools.engine.gpu.conv_weights import BiasGradient
from caffetools.engine.gpu.own_conv import OwnConvPlan
from caffetools.glog import info
from caffetools.proto import caffe_pb2

_said: set[str] = set()


def plan(choice: int, x_shape, w_shape, stride, pad, dilation, group: int = 1, dtype=np.float32):
    """Return the plan of a convolution.

    choice: a ConvolutionParameter.Engine. The rest is as for `OwnConvPlan`.
    """
    shapes = x_shape, w_shape, stride, pad, dilation, group, dtype
    if choice == caffe_pb2.ConvolutionParameter.CAFFE or dtype != np.float32 or 0 in x_shape:
        return OwnConvPlan(*shapes)
    why = cudnn.why_not()
    if not why:
        from caffetools.engine.gpu.cudnn_conv import MOST_AXES, CudnnPlan

        if len(x_shape) - 2 <= MOST_AXES:
            return CudnnPlan(*shapes)
        why = f"it has no more than {MOST_AXES} spatial axes"
    _say_once(f"Convolution is computed by kernels of our own, without cuDNN: {why}")
    return OwnConvPlan(*shapes)


def _say_once(text):
    if text not in _said:
        _said.add(text)
        info(text)


__all__ = ["BiasGradient", "plan"]
