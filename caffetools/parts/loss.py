"""What losses have in common: how a sum over items is normalised, and labels that have to be classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

import numpy as np

from caffetools.blob import Blob
from caffetools.glog import check_eq, fatal
from caffetools.layer import Layer
from caffetools.proto import caffe_pb2

Norm = Callable[[int, int, int], int]

NORMS: dict[int, Norm] = {
    caffe_pb2.LossParameter.FULL: lambda outer, inner, valid: outer * inner,
    caffe_pb2.LossParameter.VALID: lambda outer, inner, valid: valid,
    caffe_pb2.LossParameter.BATCH_SIZE: lambda outer, inner, valid: outer,
    caffe_pb2.LossParameter.NONE: lambda outer, inner, valid: 1,
}

# Fields of loss_param that only SoftmaxWithLoss reads.
SOFT_TARGETS = ("class_weighting", "weight_by_label_freqs", "label_smoothing")

# The smallest probability whose logarithm the older losses take.
LOG_THRESHOLD = 1e-20


def normalization(param: caffe_pb2.LossParameter, default: int = caffe_pb2.LossParameter.VALID) -> Norm:
    """Return the function (outer, inner, valid) -> norm that a loss_param asks for, in its new or old form.

    outer, inner: items before and after the class axis. valid: items that are not ignored. Never below 1.
    """
    mode = default
    if param.HasField("normalization"):
        mode = param.normalization
    elif param.HasField("normalize"):
        mode = param.VALID if param.normalize else param.BATCH_SIZE
    norm = NORMS[mode]
    return lambda outer, inner, valid: max(1, norm(outer, inner, valid))


def class_indices(layer: Layer, labels: np.ndarray, classes: int) -> np.ndarray:
    """Return float labels (one axis) as integers.

    Errors: FatalError for a label that is not one of the classes 0 to classes - 1, NaN among them.
    """
    right = (labels > -1) & (labels < classes)
    if not right.all():
        refuse_label(layer, labels, int(np.argmin(right)), classes)
    return labels.astype(np.intp)


def check_label_count(layer: Layer, items: int, labels: Blob, axis: str) -> None:
    """Refuse a blob of labels that does not have one for every item; axis: its name in the message."""
    words = (
        f"Number of labels must match number of predictions; e.g., if {axis} == 1 and prediction shape is "
        "(N, C, H, W), label count (number of labels) must be N*H*W, with integer values in {0, 1, ..., C-1}."
    )
    check_eq(
        items,
        labels.count,
        "outer_num_ * inner_num_ == bottom[1]->count()",
        f"{words} (layer '{layer.name}')",
    )


def refuse_label(layer: Layer, labels: np.ndarray, index: int, classes: int) -> NoReturn:
    """Raise the error of a label that is no class."""
    fatal(
        f"Check failed: label_value >= 0 && label_value < {classes} label {labels[index]:g} at index {index} "
        f"of the batch is not one of the classes 0 to {classes - 1} (layer '{layer.name}')"
    )
