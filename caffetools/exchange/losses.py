"""ONNX for losses and Accuracy, whose labels are inputs of the graph as floats."""

from __future__ import annotations

import numpy as np

from caffetools.exchange.graph import Side, Step, matrix
from caffetools.parts.loss import LOG_THRESHOLD
from caffetools.proto import caffe_pb2

NORMS = caffe_pb2.LossParameter


def _mode(step: Step, default: int) -> int:
    """Return which items a loss is divided by, as `parts.loss.normalization` reads it."""
    param = step.layer.param.loss_param
    if param.HasField("normalization"):
        return param.normalization
    if param.HasField("normalize"):
        return NORMS.VALID if param.normalize else NORMS.BATCH_SIZE
    return default


def _total(step: Step, value: str) -> str:
    """Sum all elements into a scalar."""
    return step.node("ReduceSum", value, keepdims=0)


def _count(step: Step, value: str, first: int = 0, end: int | None = None) -> str:
    """Count the elements of a value's axes from `first` up to `end`, when the graph runs."""
    bounds = {"start": first} if end is None else {"start": first, "end": end}
    shape = step.node("Shape", value, **bounds)
    return step.to_float(step.node("ReduceProd", shape, keepdims=0))


def _normalised(step: Step, losses: str, counted: str, mode: int, outer: str) -> str:
    """Divide the sum of the losses by what `mode` says, but never by less than 1.

    losses: one for each item, 0 where the item is ignored. counted: 1.0 where it is not, of the same shape. outer:
    the number of items before the class axis.
    """
    norm = {
        NORMS.FULL: lambda: _count(step, losses),
        NORMS.VALID: lambda: _total(step, counted),
        NORMS.BATCH_SIZE: lambda: outer,
        NORMS.NONE: lambda: step.constant(1),
    }[mode]()
    return step.node("Div", _total(step, losses), step.node("Max", norm, step.constant(1)))


def _counted(step: Step, labels: str) -> str:
    """Return 1.0 where a label is not the one to ignore."""
    ignored = step.constant(step.layer.ignore_label if step.layer.has_ignore_label else -1, np.int64)
    if not step.layer.has_ignore_label:
        zero = step.node("Mul", step.to_float(labels), step.constant(0))
        return step.shifted(zero, 1)
    return step.to_float(step.node("Not", step.node("Equal", labels, ignored)))


def _classes(side: Side) -> tuple[int, int, int]:
    """Bottom 0 as (outer, classes, inner)."""
    layer = side.layer
    return layer.outer, layer.classes, layer.inner


def _items(side: Side) -> tuple[int, int, int]:
    return side.layer.outer, 1, side.layer.inner


def softmax_with_loss(step: Step) -> list[str]:
    layer = step.layer
    probability = step.node("Softmax", step.reshape(step.x, _classes), axis=1)
    labels = step.to_index(step.reshape(step.inputs[1], _items))
    counted = _counted(step, labels)
    known = step.node("Clip", labels, step.constant(0, np.int64), step.constant(layer.classes - 1, np.int64))
    floor = step.constant(np.finfo(np.float32).tiny)
    if layer.targets is None:
        chosen = step.node("GatherElements", probability, known, axis=1)
        logs = step.node("Log", step.node("Max", chosen, floor))
    else:
        logs = _soft_targets(step, step.node("Log", step.node("Max", probability, floor)), known)
    losses = step.node("Neg", step.node("Mul", counted, logs))
    outer = _count(step, labels, 0, 1)
    loss = _normalised(step, losses, counted, _mode(step, NORMS.VALID), outer)
    return [loss, *([step.like_top(probability, 1)] if len(step.side.top) > 1 else [])]


def _soft_targets(step: Step, logs: str, labels: str) -> str:
    """Return the sum of t_c log p_c over the classes, with their weights and smoothing."""
    weights, smoothing = step.layer.targets
    own = step.node("GatherElements", logs, labels, axis=1)
    own = step.scaled(step.node("Mul", own, step.node("Gather", step.constant(weights), labels)), 1 - smoothing)
    alike = step.constant((smoothing * weights / weights.size).reshape(1, -1, 1))
    return step.node("Add", own, step.sum(step.node("Mul", logs, alike), [1]))


def infogain_loss(step: Step) -> list[str]:
    layer = step.layer
    probability = step.node("Softmax", step.reshape(step.x, _classes), axis=1)
    labels = step.to_index(step.reshape(step.inputs[1], lambda side: (side.layer.outer, side.layer.inner)))
    counted = _counted(step, labels)
    known = step.node("Clip", labels, step.constant(0, np.int64), step.constant(layer.classes - 1, np.int64))
    size = (layer.classes, layer.classes)
    if len(step.inputs) > 2:
        gains = step.node("Reshape", step.inputs[2], step.constant(size, np.int64))
    else:
        gains = step.constant(np.reshape(layer.matrix, size))
    # A row of gains for each item, its classes moved to where the probabilities have theirs.
    rows = step.node("Transpose", step.node("Gather", gains, known, axis=0), perm=[0, 2, 1])
    logs = step.node("Log", step.node("Max", probability, step.constant(LOG_THRESHOLD)))
    per_item = step.sum(step.node("Mul", rows, logs), [1], keepdims=False)
    losses = step.node("Neg", step.node("Mul", counted, per_item))
    loss = _normalised(step, losses, counted, _mode(step, NORMS.VALID), _count(step, labels, 0, 1))
    return [loss, *([step.like_top(probability, 1)] if len(step.side.top) > 1 else [])]


def multinomial_logistic_loss(step: Step) -> list[str]:
    probability = step.reshape(step.x, matrix(1))
    labels = step.to_index(step.node("Reshape", step.inputs[1], step.constant([-1, 1], np.int64)))
    chosen = step.node("GatherElements", probability, labels, axis=1)
    logs = step.node("Log", step.node("Max", chosen, step.constant(LOG_THRESHOLD)))
    return [step.node("Div", step.node("Neg", _total(step, logs)), _count(step, labels))]


def euclidean_loss(step: Step) -> list[str]:
    difference = step.node("Sub", step.reshape(step.x, matrix(1)), step.reshape(step.inputs[1], matrix(1)))
    total = _total(step, step.node("Mul", difference, difference))
    return [step.node("Div", total, step.scaled(_count(step, difference, 0, 1), 2))]


def hinge_loss(step: Step) -> list[str]:
    scores = step.reshape(step.x, matrix(1))
    classes = step.side.bottom[0].count_from(1)
    labels = step.to_index(step.node("Reshape", step.inputs[1], step.constant([-1], np.int64)))
    signs = step.node("OneHot", labels, step.constant(classes, np.int64), step.constant([1, -1]), axis=1)
    margins = step.node("Relu", step.shifted(step.node("Mul", signs, scores), 1))
    total = _total(step, step.node("Mul", margins, margins) if step.layer.squared else margins)
    return [step.node("Div", total, _count(step, scores, 0, 1))]


def sigmoid_cross_entropy_loss(step: Step) -> list[str]:
    x, targets = step.reshape(step.x, matrix(1)), step.reshape(step.inputs[1], matrix(1))
    # log(1 + e^-|x|) + max(x, 0) - x t, which does not overflow.
    positive = step.node("Relu", x)
    small = step.node("Softplus", step.node("Neg", step.node("Abs", x)))
    losses = step.node("Sub", step.node("Add", small, positive), step.node("Mul", x, targets))
    counted = _counted(step, step.to_index(targets))
    losses = step.node("Mul", counted, losses)
    return [_normalised(step, losses, counted, _mode(step, NORMS.BATCH_SIZE), _count(step, losses, 0, 1))]


def contrastive_loss(step: Step) -> list[str]:
    layer = step.layer
    a, b = (
        step.reshape(value, lambda side: (side.bottom[0].shape[0], side.bottom[0].count_from(1)))
        for value in step.inputs[:2]
    )
    flat = step.node("Reshape", step.inputs[2], step.constant([-1], np.int64))
    alike = step.node("Not", step.node("Equal", step.to_index(flat), step.constant(0, np.int64)))
    difference = step.node("Sub", a, b)
    squares = step.sum(step.node("Mul", difference, difference), [1], keepdims=False)
    distance = squares if layer.legacy else step.node("Sqrt", squares)
    gap = step.node("Relu", step.node("Sub", step.constant(layer.margin), distance))
    unlike = gap if layer.legacy else step.node("Mul", gap, gap)
    total = _total(step, step.node("Where", alike, squares, unlike))
    return [step.node("Div", total, step.scaled(_count(step, squares), 2))]


def accuracy(step: Step) -> list[str]:
    """The share of items with less than top_k other classes at or above the label's score."""
    if len(step.side.top) > 1:
        step.refuse("the accuracy of each class, its second top")
    layer = step.layer

    def scores_of(side: Side) -> tuple[int, int, int]:
        layer, bottom = side.layer, side.bottom[0]
        return bottom.count // (layer.classes * layer.inner), layer.classes, layer.inner

    scores = step.reshape(step.x, scores_of)
    labels = step.to_index(step.reshape(step.inputs[1], lambda side: (scores_of(side)[0], 1, side.layer.inner)))
    counted = _counted(step, labels)
    known = step.node("Clip", labels, step.constant(0, np.int64), step.constant(layer.classes - 1, np.int64))
    own = step.node("GatherElements", scores, known, axis=1)
    better = step.sum(step.to_float(step.node("GreaterOrEqual", scores, own)), [1])
    right = step.to_float(step.node("LessOrEqual", better, step.constant(layer.top_k)))
    share = step.node("Div", _total(step, step.node("Mul", right, counted)), _total(step, counted))
    return [share]


EXPORTERS = {
    "Accuracy": accuracy,
    "ContrastiveLoss": contrastive_loss,
    "EuclideanLoss": euclidean_loss,
    "HingeLoss": hinge_loss,
    "InfogainLoss": infogain_loss,
    "MultinomialLogisticLoss": multinomial_logistic_loss,
    "SigmoidCrossEntropyLoss": sigmoid_cross_entropy_loss,
    "SoftmaxWithLoss": softmax_with_loss,
}
