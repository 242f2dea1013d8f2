"""ONNX for DetectionOutput: boxes from offsets, and NonMaxSuppression for each class of each item.

Below, N are the items, P the priors, C the classes without the background, and K the best scores of a class, which are
looked at. The candidates (N, C K) lie in the order of the layer's rows, so that a mask of those that stay is enough.
"""

from __future__ import annotations

import numpy as np

from caffetools.exchange.graph import Side, Step
from caffetools.parts.boxes import CENTER_SIZE, CORNER, CORNER_SIZE


def detection_output(step: Step) -> list[str]:
    layer = step.layer
    labels = [label for label in range(layer.classes) if label != layer.background]
    count = layer.priors if layer.top_k < 0 else min(layer.top_k, layer.priors)
    if not labels or not count or not layer.keep_top_k:
        step.refuse("its settings leave nothing to be found (num_classes, top_k, keep_top_k)")
    if layer.eta < 1 and layer.nms_threshold > 0.5:
        step.refuse("NonMaxSuppression has no threshold that shrinks, as nms_param.eta asks for")
    boxes, scores = _best_of_class(step, labels, count)
    candidates = len(labels) * count
    flat = step.reshape(scores, lambda side: (side.bottom[0].shape[0], candidates))
    stay = _not_suppressed(step, boxes, scores, flat, count)
    if 0 < layer.keep_top_k < candidates:
        stay = _best_of_item(step, flat, stay, layer.keep_top_k)
    places = step.node("Transpose", step.node("NonZero", stay), perm=[1, 0])  # item and candidate, in order
    item, candidate = step.nodes("Split", [places, step.constant([1, 1], np.int64)], 2, axis=1)
    label = step.node("Gather", step.constant(np.repeat(labels, count)), candidate)
    score = step.node("Unsqueeze", step.node("GatherND", flat, places), step.constant([1], np.int64))
    corners = step.reshape(boxes, lambda side: (side.bottom[0].shape[0], candidates, 4))
    box = step.node("GatherND", corners, places)
    rows = _or_none(step, step.node("Concat", step.to_float(item), label, score, box, axis=1), flat)
    step.leave_open(2, "detections")
    return [step.node("Unsqueeze", rows, step.constant([0, 1], np.int64))]


def _best_of_class(step: Step, labels: list[int], count: int) -> tuple[str, str]:
    """Return boxes (N, C, K, 4) and scores (N, C, K), the highest first."""
    layer, chosen = step.layer, step.constant(labels, np.int64)
    scores = step.reshape(step.inputs[1], lambda side: (side.bottom[0].shape[0], layer.priors, layer.classes))
    scores = step.node("Transpose", step.node("Gather", scores, chosen, axis=2), perm=[0, 2, 1])
    scores, priors = step.nodes("TopK", [scores, step.constant([count], np.int64)], 2, axis=2)
    index = step.node("Unsqueeze", priors, step.constant([3], np.int64))
    boxes, own = _boxes(step), layer.box_sets > 1
    if own:
        boxes = step.node("Transpose", step.node("Gather", boxes, chosen, axis=2), perm=[0, 2, 1, 3])
    else:
        boxes = step.node("Squeeze", boxes, step.constant([2], np.int64))
    return step.node("GatherND", boxes, index, batch_dims=1 + own), scores


def _boxes(step: Step) -> str:
    """Return the boxes (N, P, one or one for each class, 4)."""
    layer = step.layer

    def sets(side: Side) -> tuple[int, ...]:
        return side.bottom[0].shape[0], layer.priors, layer.box_sets, 4

    priors, variances = (
        step.node("Reshape", half, step.constant([1, layer.priors, 1, 4], np.int64))
        for half in step.nodes("Split", [step.inputs[2], step.constant([1, 1], np.int64)], 2, axis=1)
    )
    offsets = step.reshape(step.inputs[0], sets)
    if not layer.in_target:
        offsets = step.node("Mul", offsets, variances)
    return _DECODE[layer.param.detection_output_param.code_type](step, priors, offsets)


def _halves(step: Step, boxes: str) -> list[str]:
    """Split boxes into their two corners, or offsets into those of centres and those of sizes."""
    return step.nodes("Split", [boxes, step.constant([2, 2], np.int64)], 2, axis=-1)


def _corner(step: Step, priors: str, offsets: str) -> str:
    return step.node("Add", priors, offsets)


def _center_size(step: Step, priors: str, offsets: str) -> str:
    (low, high), (moves, growths) = _halves(step, priors), _halves(step, offsets)
    sizes, middles = step.node("Sub", high, low), step.scaled(step.node("Add", low, high), 0.5)
    centres = step.node("Add", middles, step.node("Mul", moves, sizes))
    half = step.scaled(step.node("Mul", step.node("Exp", growths), sizes), 0.5)
    return step.node("Concat", step.node("Sub", centres, half), step.node("Add", centres, half), axis=-1)


def _corner_size(step: Step, priors: str, offsets: str) -> str:
    low, high = _halves(step, priors)
    sizes = step.node("Sub", high, low)
    return step.node("Add", priors, step.node("Mul", offsets, step.node("Concat", sizes, sizes, axis=-1)))


_DECODE = {CENTER_SIZE: _center_size, CORNER: _corner, CORNER_SIZE: _corner_size}


def _not_suppressed(step: Step, boxes: str, scores: str, flat: str, count: int) -> str:
    """Return a mask (N, C K): 1 for the candidates that no better one of their class overlaps too much."""
    layer = step.layer
    low, high = _halves(step, boxes)
    # ONNX puts corners into order. Here a box whose corners are the wrong way round has no area and overlaps none.
    boxes = step.node("Concat", low, step.node("Max", low, high), axis=-1)
    boxes = step.node("Reshape", boxes, step.constant([-1, count, 4], np.int64))
    scores = step.node("Reshape", scores, step.constant([-1, 1, count], np.int64))
    limits = [step.constant([count], np.int64), step.constant([min(layer.nms_threshold, 1)])]
    if layer.threshold > -np.inf:
        limits.append(step.constant([layer.threshold]))
    chosen = step.node("NonMaxSuppression", boxes, scores, *limits)
    group, _, place = step.nodes("Split", [chosen, step.constant([1, 1, 1], np.int64)], 3, axis=1)
    rank = step.node("Add", step.node("Mul", group, step.constant(count, np.int64)), place)
    rank = step.node("Reshape", rank, step.constant([-1], np.int64))
    line = step.node("Reshape", flat, step.constant([-1], np.int64))
    nothing = step.node("ConstantOfShape", step.node("Shape", line))
    mask = step.node("ScatterElements", nothing, rank, _ones(step, rank))
    return step.node("Reshape", mask, step.node("Shape", flat))


def _ones(step: Step, like: str) -> str:
    return step.shifted(step.node("ConstantOfShape", step.node("Shape", like)), 1)


def _best_of_item(step: Step, flat: str, stay: str, count: int) -> str:
    """Return the mask of the candidates that stay and are among the best `count` of those of their item."""
    known = step.node("Greater", stay, step.constant(0))
    scores = step.node("Where", known, flat, step.constant(-np.inf))
    _, best = step.nodes("TopK", [scores, step.constant([count], np.int64)], 2, axis=1)
    nothing = step.node("ConstantOfShape", step.node("Shape", flat))
    return step.node("Mul", stay, step.node("ScatterElements", nothing, best, _ones(step, best), axis=1))


def _or_none(step: Step, rows: str, flat: str) -> str:
    """Return the rows, or where there are none one of -1 for each item."""
    items = step.node("Shape", flat, start=0, end=1)
    found = step.node("Shape", rows, start=0, end=1)
    first, single = step.constant(0, np.int64), step.constant(1, np.int64)
    numbers = step.node("Range", first, step.node("Squeeze", items), single)
    numbers = step.to_float(step.node("Unsqueeze", numbers, step.constant([1], np.int64)))
    empty = step.node("Pad", numbers, step.constant([0, 0, 0, 6], np.int64), step.constant(-1))
    wanted = step.node("Where", step.node("Equal", found, first), items, first)
    return step.node("Concat", rows, step.node("Slice", empty, step.constant([0], np.int64), wanted), axis=0)


EXPORTERS = {"DetectionOutput": detection_output}
