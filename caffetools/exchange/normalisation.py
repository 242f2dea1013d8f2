"""ONNX for Softmax, BatchNorm and MVN."""

from __future__ import annotations

import numpy as np

from caffetools.exchange.graph import Step, matrix


def softmax(step: Step) -> list[str]:
    return [step.node("Softmax", step.x, axis=step.layer.param.softmax_param.axis)]


def batch_norm(step: Step) -> list[str]:
    layer, axes = step.layer, len(step.side.bottom[0].shape)
    if axes < 2:
        step.refuse("a bottom with one axis has no channels")
    if not layer.use_global_stats:
        rest = [axis for axis in range(axes) if axis != 1]
        centred = step.node("Sub", step.x, step.node("ReduceMean", step.x, axes=rest))
        variance = step.node("ReduceMean", step.node("Mul", centred, centred), axes=rest)
        y = step.node("Div", centred, step.node("Sqrt", step.shifted(variance, float(layer.eps))))
        if layer.scale_bias:
            shape = (layer.channels, *[1] * (axes - 2))
            y = step.node("Add", step.node("Mul", y, step.weight(3, shape)), step.weight(4, shape))
        return [y]
    mean, variance, weight = (blob.data.astype(np.float64) for blob in layer.blobs[:3])
    factor = 1 / weight[0] if weight[0] else 0
    plain = np.ones(layer.channels), np.zeros(layer.channels)
    scale, bias = (blob.data for blob in layer.blobs[3:]) if layer.scale_bias else plain
    return [
        step.node(
            "BatchNormalization", step.x, step.constant(scale), step.constant(bias),
            step.constant(mean * factor), step.constant(variance * factor), epsilon=float(layer.eps),
        )
    ]  # fmt: skip


def mvn(step: Step) -> list[str]:
    layer = step.layer
    x = step.reshape(step.x, matrix(layer.axes))
    y = step.node("Sub", x, step.node("ReduceMean", x, axes=[1]))
    if layer.normalize_variance:
        deviation = step.node("Sqrt", step.node("ReduceMean", step.node("Mul", y, y), axes=[1]))
        y = step.node("Div", y, step.shifted(deviation, float(layer.eps)))
    return [step.like_top(y)]


EXPORTERS = {"BatchNorm": batch_norm, "MVN": mvn, "Softmax": softmax}
