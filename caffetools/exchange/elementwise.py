"""ONNX for the layers that work element by element, or combine bottoms of one shape."""

from __future__ import annotations

import numpy as np

from caffetools.exchange.graph import Side, Step
from caffetools.proto import caffe_pb2


def abs_val(step: Step) -> list[str]:
    return [step.node("Abs", step.x)]


def bnll(step: Step) -> list[str]:
    return [step.node("Softplus", step.x)]


def clip(step: Step) -> list[str]:
    param = step.layer.param.clip_param
    return [step.node("Clip", step.x, step.constant(param.min), step.constant(param.max))]


def dropout(step: Step) -> list[str]:
    return [step.node("Identity", step.x)]


def elu(step: Step) -> list[str]:
    return [step.node("Elu", step.x, alpha=float(step.layer.alpha))]


def exp(step: Step) -> list[str]:
    param = step.layer.param.exp_param
    exponent = step.shifted(step.scaled(step.x, param.scale), param.shift)
    rate = 1 if param.base == -1 else np.log(param.base)
    return [step.node("Exp", step.scaled(exponent, rate))]


def log(step: Step) -> list[str]:
    param = step.layer.param.log_param
    value = step.node("Log", step.shifted(step.scaled(step.x, param.scale), param.shift))
    return [step.scaled(value, 1 if param.base == -1 else 1 / np.log(param.base))]


def power(step: Step) -> list[str]:
    param = step.layer.param.power_param
    base = step.shifted(step.scaled(step.x, param.scale), param.shift)
    return [base if param.power == 1 and base != step.x else step.node("Pow", base, step.constant(param.power))]


def prelu(step: Step) -> list[str]:
    slopes = step.layer.blobs[0].count
    axes = len(step.side.bottom[0].shape) - 2
    return [step.node("PRelu", step.x, step.weight(0, (slopes, *[1] * max(0, axes))))]


def relu(step: Step) -> list[str]:
    slope = float(step.layer.negative_slope)
    return [step.node("LeakyRelu", step.x, alpha=slope) if slope else step.node("Relu", step.x)]


def sigmoid(step: Step) -> list[str]:
    return [step.node("Sigmoid", step.x)]


def swish(step: Step) -> list[str]:
    gate = step.node("Sigmoid", step.scaled(step.x, float(step.layer.beta)))
    return [step.node("Mul", step.x, gate)]


def tanh(step: Step) -> list[str]:
    return [step.node("Tanh", step.x)]


def threshold(step: Step) -> list[str]:
    return [step.to_float(step.node("Greater", step.x, step.constant(step.layer.threshold)))]


def eltwise(step: Step) -> list[str]:
    kinds = caffe_pb2.EltwiseParameter
    combine = {kinds.PROD: "Mul", kinds.SUM: "Add", kinds.MAX: "Max"}[step.layer.operation]
    result, *others = (
        step.scaled(value, float(c)) for value, c in zip(step.inputs, step.layer.coefficients, strict=True)
    )
    for value in others:
        result = step.node(combine, result, value)
    return [result]


def _spanning(step: Step, axis: int, value: str, index: int) -> str:
    """Bring an array that spans some axes of bottom 0 into a shape that repeats over the others.

    index: which bottom it is, or which parameter where it is none.
    """

    def of(side: Side) -> tuple[int, ...]:
        shape = (side.bottom[index] if len(side.bottom) > 1 else side.layer.blobs[0]).shape
        first = side.bottom[0].canonical_axis(axis) if shape else 0
        behind = len(side.bottom[0].shape) - first - len(shape)
        return (*[1] * first, *shape, *[1] * behind)

    return step.reshape(value, of)


def bias(step: Step) -> list[str]:
    value = step.inputs[1] if len(step.inputs) > 1 else step.weight(0)
    return [step.node("Add", step.x, _spanning(step, step.layer.param.bias_param.axis, value, 1))]


def scale(step: Step) -> list[str]:
    axis = step.layer.param.scale_param.axis
    value = step.inputs[1] if len(step.inputs) > 1 else step.weight(0)
    result = step.node("Mul", step.x, _spanning(step, axis, value, 1))
    if step.layer.has_bias:
        place = len(step.layer.blobs) - 1
        result = step.node("Add", result, _spanning(step, axis, step.weight(place), 1))
    return [result]


EXPORTERS = {
    "AbsVal": abs_val,
    "BNLL": bnll,
    "Bias": bias,
    "Clip": clip,
    "Dropout": dropout,
    "ELU": elu,
    "Eltwise": eltwise,
    "Exp": exp,
    "Log": log,
    "PReLU": prelu,
    "Power": power,
    "ReLU": relu,
    "Scale": scale,
    "Sigmoid": sigmoid,
    "Swish": swish,
    "TanH": tanh,
    "Threshold": threshold,
}
