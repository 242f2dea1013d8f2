"""Boxes as SSD has them (Liu et al. 2016): xmin, ymin, xmax, ymax as shares of the picture's sides, one box a row."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from caffetools.engine.cpu.jit import kernel
from caffetools.proto import caffe_pb2

CORNER, CENTER_SIZE, CORNER_SIZE = (
    getattr(caffe_pb2.PriorBoxParameter, name) for name in ("CORNER", "CENTER_SIZE", "CORNER_SIZE")
)


def overlaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the overlaps, intersection over union, of all boxes a (N, 4) with all b (M, 4): (N, M)."""
    low, high = np.maximum(a[:, None, :2], b[:, :2]), np.minimum(a[:, None, 2:], b[:, 2:])
    common = np.prod(np.maximum(high - low, 0), axis=2)
    union = areas(a)[:, None] + areas(b) - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def areas(boxes: np.ndarray) -> np.ndarray:
    """Return the areas of boxes, 0 for those whose corners are the wrong way round."""
    return np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)


def _centres_and_sizes(boxes):
    return (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]


def _decode_corner(priors, offsets):
    return priors + offsets


def _decode_center_size(priors, offsets):
    centres, sizes = _centres_and_sizes(priors)
    centres = centres + offsets[:, :2] * sizes
    half = np.exp(offsets[:, 2:]) * sizes / 2
    return np.concatenate([centres - half, centres + half], axis=1)


def _decode_corner_size(priors, offsets):
    return priors + offsets * np.tile(priors[:, 2:] - priors[:, :2], 2)


def _encode_corner(priors, boxes):
    return boxes - priors


def _encode_center_size(priors, boxes):
    (centres, sizes), (to, wanted) = _centres_and_sizes(priors), _centres_and_sizes(boxes)
    return np.concatenate([(to - centres) / sizes, np.log(wanted / sizes)], axis=1)


def _encode_corner_size(priors, boxes):
    return (boxes - priors) / np.tile(priors[:, 2:] - priors[:, :2], 2)


Code = Callable[[np.ndarray, np.ndarray], np.ndarray]

#: How offsets move a prior (before: times the variances), and the offsets that move it to a box.
DECODE: dict[int, Code] = {
    CORNER: _decode_corner,
    CENTER_SIZE: _decode_center_size,
    CORNER_SIZE: _decode_corner_size,
}
ENCODE: dict[int, Code] = {
    CORNER: _encode_corner,
    CENTER_SIZE: _encode_center_size,
    CORNER_SIZE: _encode_corner_size,
}


def suppress(boxes: np.ndarray, scores: np.ndarray, threshold: float, eta: float = 1.0) -> np.ndarray:
    """Return the indices of the boxes that stay, the best first: those that overlap none of them by more.

    threshold: of the overlap; it shrinks by the factor eta with each box that stays, while it is above 0.5.
    """
    order = np.argsort(-scores, kind="stable")
    kept = np.empty(len(order), np.int64)
    count = keep_apart(boxes[order], threshold, eta, kept)
    return order[kept[:count]]


@kernel
def keep_apart(boxes, threshold, eta, kept):
    """Write the indices of the boxes that overlap none of those kept before by more, and return their number."""
    zero = boxes.dtype.type(0)
    count = 0
    for i in range(boxes.shape[0]):
        area = max(boxes[i, 2] - boxes[i, 0], zero) * max(boxes[i, 3] - boxes[i, 1], zero)
        stays = True
        for k in range(count):
            j = kept[k]
            width = min(boxes[i, 2], boxes[j, 2]) - max(boxes[i, 0], boxes[j, 0])
            height = min(boxes[i, 3], boxes[j, 3]) - max(boxes[i, 1], boxes[j, 1])
            if width > zero and height > zero:
                common = width * height
                other = (boxes[j, 2] - boxes[j, 0]) * (boxes[j, 3] - boxes[j, 1])
                if common / (area + other - common) > threshold:
                    stays = False
                    break
        if stays:
            kept[count] = i
            count += 1
            if eta < 1 and threshold > 0.5:
                threshold *= eta
    return count
