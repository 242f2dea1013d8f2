"""ONNX for the layers that move values: shapes, pieces, choices of items, and sums along axes."""

from __future__ import annotations

import numpy as np

from caffetools.exchange.graph import Step, matrix
from caffetools.layers.concat import axis_of
from caffetools.proto import caffe_pb2


def reshaped(step: Step) -> list[str]:
    return [step.like_top(step.x)]


def split(step: Step) -> list[str]:
    return [step.x] * len(step.side.top)


def silence(step: Step) -> list[str]:
    return []


def parameter(step: Step) -> list[str]:
    return [step.weight(0)]


def concat(step: Step) -> list[str]:
    axis = axis_of(step.layer, step.side.bottom[0], step.layer.param.concat_param, "concat_dim")
    return [step.node("Concat", *step.inputs, axis=axis)]


def slices(step: Step) -> list[str]:
    side = step.side
    axis = axis_of(step.layer, side.bottom[0], step.layer.param.slice_param, "slice_dim")
    if len(side.top) == 1:
        return [step.node("Identity", step.x)]
    sizes = [blob.shape[axis] for blob in side.top]
    if step.other is not None and sizes != [blob.shape[axis] for blob in step.other.top]:
        if len(set(sizes)) > 1:
            step.refuse("its pieces change with the batch; --batch=N fixes their sizes")
        return step.nodes("Split", [step.x], len(sizes), axis=axis)
    return step.nodes("Split", [step.x, step.constant(sizes, np.int64)], len(sizes), axis=axis)


def crop(step: Step) -> list[str]:
    first, axes = step.layer.param.crop_param.axis, len(step.side.bottom[0].shape)
    axis = step.side.bottom[0].canonical_axis(first)
    starts = np.array([cut.start for cut in step.layer.cut[axis:]], np.int64)
    # The sizes are those that bottom 1 has when the graph runs.
    sizes = step.node("Shape", step.inputs[1], start=axis)
    ends = step.node("Add", sizes, step.constant(starts, np.int64))
    axis_list = step.constant(range(axis, axes), np.int64)
    return [step.node("Slice", step.x, step.constant(starts, np.int64), ends, axis_list)]


def tile(step: Step) -> list[str]:
    bottom = step.side.bottom[0]
    repeats = [1] * len(bottom.shape)
    repeats[bottom.canonical_axis(step.layer.axis)] = step.layer.tiles
    return [step.node("Tile", step.x, step.constant(repeats, np.int64))]


def batch_reindex(step: Step) -> list[str]:
    flat = step.node("Reshape", step.inputs[1], step.constant([-1], np.int64))
    return [step.node("Gather", step.x, step.to_index(flat), axis=0)]


def filter_items(step: Step) -> list[str]:
    """Keep the items whose selector, the last bottom, is not zero."""
    *values, selector = step.inputs
    flat = step.node("Reshape", selector, step.constant([-1], np.int64))
    chosen = step.node("Not", step.node("Equal", flat, step.constant(0)))
    for index in range(len(values)):
        step.leave_open(0, "selected", index)
    return [step.node("Compress", value, chosen, axis=0) for value in values]


def reduction(step: Step) -> list[str]:
    layer, kinds = step.layer, caffe_pb2.ReductionParameter
    axis = step.side.bottom[0].canonical_axis(layer.axis)
    x = step.reshape(step.x, matrix(axis))
    terms = {kinds.ASUM: lambda: step.node("Abs", x), kinds.SUMSQ: lambda: step.node("Mul", x, x)}
    total = step.sum(terms.get(layer.operation, lambda: x)(), [1], keepdims=False)
    return [step.like_top(step.scaled(total, layer.factor))]


def arg_max(step: Step) -> list[str]:
    """The largest values and their indices; of equal values runtimes choose the first where Caffe takes the last."""
    layer = step.layer
    whole = layer.axis is None
    x = step.reshape(step.x, matrix(1)) if whole else step.x
    axis = 1 if whole else step.side.bottom[0].canonical_axis(layer.axis)
    values, indices = step.nodes("TopK", [x, step.constant([layer.top_k], np.int64)], 2, axis=axis)
    if not layer.out_max_val:
        return [step.like_top(step.to_float(indices))]
    if not whole:
        return [values]
    return [step.like_top(step.node("Concat", step.to_float(indices), values, axis=1))]


EXPORTERS = {
    "ArgMax": arg_max,
    "BatchReindex": batch_reindex,
    "Concat": concat,
    "Crop": crop,
    "Filter": filter_items,
    "Flatten": reshaped,
    "Parameter": parameter,
    "Reduction": reduction,
    "Reshape": reshaped,
    "Silence": silence,
    "Slice": slices,
    "Split": split,
    "Tile": tile,
}
