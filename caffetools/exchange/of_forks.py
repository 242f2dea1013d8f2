"""ONNX for the layers of forks."""

from __future__ import annotations

import numpy as np

from caffetools.exchange.graph import Side, Step
from caffetools.exchange.products import convolution


def axpy(step: Step) -> list[str]:
    a, x, y = step.inputs
    factors = step.reshape(a, lambda side: (*side.bottom[1].shape[:2], *[1] * (len(side.bottom[1].shape) - 2)))
    return [step.node("Add", step.node("Mul", factors, x), y)]


def bn(step: Step) -> list[str]:
    layer = step.layer
    axes = len(step.side.bottom[0].shape)
    shape = (layer.channels, *[1] * (axes - 2))
    value = step.x
    if layer.use_running:
        slope, bias, mean, variance = (blob.data.reshape(-1) for blob in layer.blobs)
        parts = [step.constant(part) for part in (slope, bias, mean, variance)]
        return [step.node("BatchNormalization", value, *parts, epsilon=float(layer.eps))]
    if not layer.affine_only:
        rest = [axis for axis in range(axes) if axis != 1]
        value = step.node("Sub", value, step.node("ReduceMean", value, axes=rest))
        variance = step.node("ReduceMean", step.node("Mul", value, value), axes=rest)
        value = step.node("Div", value, step.node("Sqrt", step.shifted(variance, float(layer.eps))))
    return [step.node("Add", step.node("Mul", value, step.weight(0, shape)), step.weight(1, shape))]


def interp(step: Step) -> list[str]:
    layer, value = step.layer, step.x
    ends = [size + layer.param.interp_param.pad_end for size in step.side.bottom[0].shape[2:]]
    starts, axes = step.constant([layer.first] * 2, np.int64), step.constant([2, 3], np.int64)
    value = step.node("Slice", value, starts, step.constant(ends, np.int64), axes)
    targets = step.side.top[0].shape[2:]
    scales = [target / (end - layer.first) for target, end in zip(targets, ends, strict=True)]
    return [
        step.node(
            "Resize", value, "", step.constant([1, 1, *scales]),
            mode="linear", coordinate_transformation_mode="align_corners",
        )
    ]  # fmt: skip


def normalize(step: Step) -> list[str]:
    layer, axes = step.layer, len(step.side.bottom[0].shape)
    summed = range(1, axes) if layer.across_spatial else [1]
    energy = step.sum(step.node("Mul", step.x, step.x), list(summed))
    unit = step.node("Div", step.x, step.node("Sqrt", step.shifted(energy, float(layer.eps))))
    scale = layer.blobs[0]
    return [step.node("Mul", unit, step.weight(0, (scale.count, *[1] * (axes - 2))))]


def permute(step: Step) -> list[str]:
    return [step.node("Transpose", step.x, perm=[int(axis) for axis in step.layer.order])]


def prior_box(step: Step) -> list[str]:
    """They depend on sizes alone, which are fixed."""
    return [step.constant(step.layer.values[None])]


def relu6(step: Step) -> list[str]:
    return [step.node("Clip", step.x, step.constant(0), step.constant(6))]


def roi_pooling(step: Step) -> list[str]:
    layer = step.layer
    regions = step.reshape(step.inputs[1], lambda side: (side.bottom[1].shape[0], 5))
    return [
        step.node(
            "MaxRoiPool", step.x, regions, pooled_shape=list(layer.parts), spatial_scale=float(layer.spatial_scale)
        )
    ]


def shuffle_channel(step: Step) -> list[str]:
    def grouped(side: Side) -> tuple[int, ...]:
        shape, group = side.bottom[0].shape, side.layer.group
        return (shape[0], group, shape[1] // group, *shape[2:])

    value = step.reshape(step.x, grouped)
    axes = len(step.side.bottom[0].shape) + 1
    return [step.like_top(step.node("Transpose", value, perm=[0, 2, 1, *range(3, axes)]))]


def smooth_l1_loss(step: Step) -> list[str]:
    layer = step.layer
    d = step.node("Sub", *step.inputs[:2])
    if len(step.inputs) > 2:
        d = step.node("Mul", d, step.inputs[2])
    size, sigma2 = step.node("Abs", d), float(layer.sigma2)
    near = step.scaled(step.node("Mul", d, d), sigma2 / 2)
    is_near, far = step.node("Less", size, step.constant(1 / sigma2)), step.shifted(size, -0.5 / sigma2)
    losses = step.node("Where", is_near, near, far)
    if len(step.inputs) > 3:
        losses = step.node("Mul", losses, step.inputs[3])
    items = step.to_float(step.node("ReduceProd", step.node("Shape", step.x, start=0, end=1), keepdims=0))
    return [step.node("Div", step.node("ReduceSum", losses, keepdims=0), items)]


def upsample(step: Step) -> list[str]:
    layer = step.layer
    if not layer.by_index:
        scales = step.constant([1, 1, *layer.scale])
        return [
            step.node(
                "Resize", step.x, "", scales,
                mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor",
            )
        ]  # fmt: skip
    x, index = (step.reshape(value, lambda side: side.layer.planes) for value in step.inputs)
    planes = step.node("Shape", x, start=0, end=1)
    size = step.node("Concat", planes, step.constant([layer.top_planes[1]], np.int64), axis=0)
    empty = step.node("ConstantOfShape", size)
    return [step.like_top(step.node("ScatterElements", empty, step.to_index(index), x, axis=1))]


EXPORTERS = {
    "Axpy": axpy,
    "BN": bn,
    "ConvolutionDepthwise": convolution,
    "DepthwiseConvolution": convolution,
    "Interp": interp,
    "Normalize": normalize,
    "Permute": permute,
    "PriorBox": prior_box,
    "ROIPooling": roi_pooling,
    "ReLU6": relu6,
    "ShuffleChannel": shuffle_channel,
    "SmoothL1Loss": smooth_l1_loss,
    "Upsample": upsample,
}
