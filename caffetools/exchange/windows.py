"""ONNX for the layers that slide a window over planes without weights: pooling, pyramids, LRN, Im2col."""

from __future__ import annotations

from math import prod

import numpy as np

from caffetools.exchange.graph import Step
from caffetools.layers.pooling import AVE, LOWEST, MAX, PoolingLayer


def _padding(layer: PoolingLayer, sizes: tuple[int, int], counts: tuple[int, int]) -> list[int]:
    """Return the padding (top, left, bottom, right) with which windows, rounded down, are as many as the layer's.

    Caffe rounds up: its last window may begin on the plane and reach far beyond it.
    """
    kernel, stride, pad = layer.window.kernel_on(*sizes), layer.window.stride, layer.window.pad
    behind = [
        max(0, (count - 1) * s + k - size - p)
        for size, count, k, s, p in zip(sizes, counts, kernel, stride, pad, strict=True)
    ]
    return [*pad, *behind]


def _padded(step: Step, value: str, padding: list[int], fill: float) -> str:
    top, left, bottom, right = padding
    if not any(padding):
        return value
    pads = step.constant([0, 0, top, left, 0, 0, bottom, right], np.int64)
    return step.node("Pad", value, pads, step.constant(fill))


def _shares(layer: PoolingLayer, sizes: tuple[int, int], counts: tuple[int, int]) -> np.ndarray:
    """Return kernel area / the area that each average is taken over: windows end where the padding ends."""
    lines = []
    terms = zip(sizes, counts, layer.window.kernel_on(*sizes), layer.window.stride, layer.window.pad, strict=True)
    for size, count, k, s, p in terms:
        starts = np.arange(count) * s - p
        lines.append(k / np.maximum(1, np.minimum(starts + k, size + p) - starts))
    return np.outer(*lines)[None, None]


def _averages(step: Step, layer: PoolingLayer, value: str, sizes, counts) -> str:
    padded = _padded(step, value, _padding(layer, sizes, counts), 0)
    kernel = layer.window.kernel_on(*sizes)
    return step.node("AveragePool", padded, kernel_shape=kernel, strides=layer.window.stride)


def _pool(step: Step, layer: PoolingLayer, sizes: tuple[int, int], counts: tuple[int, int]) -> str:
    """Append the pooling of the first bottom by `layer`, which may be a part of the step's."""
    if layer.method == MAX:
        return _largest(step, layer, sizes, counts, 1)[0]
    if layer.method == AVE:
        mean, shares = _averages(step, layer, step.x, sizes, counts), _shares(layer, sizes, counts)
        return mean if (shares == 1).all() else step.node("Mul", mean, step.constant(shares))
    squares = _averages(step, layer, step.node("Mul", step.x, step.x), sizes, counts)
    total = _averages(step, layer, step.x, sizes, counts)
    empty = step.node("Equal", total, step.constant(0))
    return step.node("Where", empty, total, step.node("Div", squares, total))


def _largest(step, layer, sizes, counts, outputs):
    padding, kernel = _padding(layer, sizes, counts), layer.window.kernel_on(*sizes)
    value = step.x
    # Runtimes want less padding than kernel; where a stride leaves more, it becomes a step of its own.
    if any(p >= k for p, k in zip(padding, kernel * 2, strict=True)):
        value, padding = _padded(step, value, padding, float(LOWEST)), [0] * 4
    return step.nodes(
        "MaxPool", [value], outputs, kernel_shape=kernel, strides=layer.window.stride, pads=padding
    )


def pooling(step: Step) -> list[str]:
    layer, side = step.layer, step.side
    sizes, counts = side.bottom[0].shape[2:], side.top[0].shape[2:]
    if layer.window.kernel is None and layer.method in (MAX, AVE):
        result = [step.node("GlobalMaxPool" if layer.method == MAX else "GlobalAveragePool", step.x)]
        if len(side.top) == 1:
            return result
    if len(side.top) == 1:
        return [_pool(step, layer, sizes, counts)]
    if max(p - k for p, k in zip(_padding(layer, sizes, counts), layer.window.kernel_on(*sizes) * 2, strict=True)) >= 0:
        step.refuse("indices of maxima with a window that lies beyond the plane")
    values, indices = _largest(step, layer, sizes, counts, 2)
    # ONNX counts the elements of the whole tensor, Caffe those of a plane.
    in_plane = step.node("Mod", indices, step.constant(prod(sizes), np.int64))
    return [values, step.to_float(in_plane)]


def spatial_pyramid(step: Step) -> list[str]:
    layer, sizes = step.layer, step.side.bottom[0].shape[2:]
    levels = [
        _pool(step, part, sizes, blob.shape[2:]) for part, blob in zip(layer.poolings, layer.pooled, strict=True)
    ]
    if len(levels) == 1:
        return levels
    return [step.node("Concat", *(step.node("Flatten", level, axis=1) for level in levels), axis=1)]


def lrn(step: Step) -> list[str]:
    layer = step.layer
    size = 2 * layer.reach + 1
    if layer.across:
        alpha = float(layer.alpha) * size
        return [step.node("LRN", step.x, alpha=alpha, beta=float(layer.beta), bias=float(layer.offset), size=size)]
    mean = step.node(
        "AveragePool", step.node("Mul", step.x, step.x),
        kernel_shape=[size, size], pads=[layer.reach] * 4, count_include_pad=1,
    )  # fmt: skip
    energy = step.shifted(step.scaled(mean, float(layer.alpha) * size * size), 1)
    return [step.node("Div", step.x, step.node("Pow", energy, step.constant(layer.beta)))]


def im2col(step: Step) -> list[str]:
    """Every tap of the window is a filter that has a one in its place, applied to each channel by itself."""
    layer, side = step.layer, step.side
    window, axis = layer.window, layer.axis
    shape = side.bottom[0].shape
    if axis != 1:
        step.refuse("it works on axis 1 only")
    taps, channels = prod(window.kernel), shape[1]
    filters = np.tile(np.eye(taps).reshape(taps, 1, *window.kernel), (channels, *[1] * (len(shape) - 1)))
    return [
        step.node(
            "Conv", step.x, step.constant(filters), kernel_shape=window.kernel, strides=window.stride,
            pads=window.pad * 2, dilations=window.dilation, group=channels,
        )
    ]  # fmt: skip


EXPORTERS = {"Im2col": im2col, "LRN": lrn, "Pooling": pooling, "SPP": spatial_pyramid}
