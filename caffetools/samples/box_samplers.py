"""Parts of a picture drawn at random, of which some meet a constraint on its boxes: SSD's batch_sampler."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import numpy as np

from caffetools.proto import caffe_pb2


def draw_parts(samplers: Sequence[caffe_pb2.BatchSampler], boxes: np.ndarray, draws) -> np.ndarray:
    """Return the parts (n, 4), as shares of the picture's sides, that all samplers find.

    boxes: the picture's (m, 4). draws: has `uniform(low, high)`.
    """
    parts = []
    for sampler in samplers:
        found = 0
        for _ in range(sampler.max_trials):
            if sampler.HasField("max_sample") and found >= sampler.max_sample:
                break
            part = _draw(sampler.sampler, draws)
            if meets(part, boxes, sampler.sample_constraint):
                found += 1
                parts.append(part)
    return np.array(parts).reshape(-1, 4)


def _draw(sampler, draws):
    """Draw a scale and an aspect ratio, which the scale limits so that the part fits, and a place."""
    scale = draws.uniform(sampler.min_scale, sampler.max_scale)
    aspect = draws.uniform(sampler.min_aspect_ratio, sampler.max_aspect_ratio)
    aspect = min(max(aspect, scale**2), 1 / scale**2)
    width, height = scale * sqrt(aspect), scale / sqrt(aspect)
    left, top = draws.uniform(0, 1 - width), draws.uniform(0, 1 - height)
    return left, top, left + width, top + height


def meets(part, boxes: np.ndarray, constraint: caffe_pb2.SampleConstraint) -> bool:
    """Whether one of the boxes is within all limits that a constraint sets; without limits every part will do."""
    limits = {
        name: [(edge, getattr(constraint, f"{edge}_{name}")) for edge in ("min", "max")
               if constraint.HasField(f"{edge}_{name}")]
        for name in ("jaccard_overlap", "sample_coverage", "object_coverage")
    }  # fmt: skip
    if not any(limits.values()):
        return True
    part = np.asarray(part)
    common = np.clip(np.minimum(boxes[:, 2:], part[2:]) - np.maximum(boxes[:, :2], part[:2]), 0, None).prod(axis=1)
    own, area = (part[2:] - part[:2]).prod(), (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = {
            "jaccard_overlap": common / (own + area - common),
            "sample_coverage": common / own,
            "object_coverage": common / area,
        }
    good = np.full(len(boxes), True)
    for name, edges in limits.items():
        for edge, limit in edges:
            good &= values[name] >= limit if edge == "min" else values[name] <= limit
    return bool(good.any())
