"""Pictures with boxes, varied as SSD's data layer does it (Liu et al. 2016).

The steps, in their order, are those on the page of AnnotatedData (`layers/annotated_data.py`). Boxes are shares of the
picture's sides. What a sample becomes depends on its random numbers and on nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from caffetools.engine.cpu.rng import mix
from caffetools.glog import check, check_ge, check_gt
from caffetools.proto import caffe_pb2
from caffetools.samples.box_samplers import draw_parts
from caffetools.samples.distort import check_distortion, distort
from caffetools.samples.resize import resize

Resize = caffe_pb2.ResizeParameter


@dataclass(frozen=True)
class Boxed:
    """picture: uint8 (channels, height, width). boxes: (n, 4). labels: (n, 3), class, instance, whether difficult."""

    picture: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray


class Draws:
    """A sample's random numbers, one after the other."""

    def __init__(self, key: int):
        self.key, self.used = key, 0

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        self.used += 1
        return low + (high - low) * ((mix(self.key, self.used) >> 11) * 2.0**-53)

    def happens(self, probability: float) -> bool:
        return self.uniform() < probability

    def below(self, count: int) -> int:
        return int(self.uniform(0, count))


class BoxTransformer:
    """Applies a `transform_param`, but for mean and scale, and samplers.

    samplers: those of `annotated_data_param`. layer: a name for messages. Errors: FatalError for values out of range.
    """

    def __init__(self, param: caffe_pb2.TransformationParameter, samplers, layer: str = ""):
        self.param, self.samplers = param, list(samplers)
        where = f"(layer '{layer}')"
        for sampler in self.samplers:
            words = f"samples of samples are not there {where}"
            check(sampler.use_original_image, "use_original_image", words)
        if param.HasField("resize_param"):
            words = f"pictures are warped only: FIT_SMALL_SIZE and FIT_LARGE_SIZE_AND_PAD are not there {where}"
            check(param.resize_param.resize_mode == Resize.WARP, "resize_mode == WARP", words)
            check_gt(param.resize_param.height, 0, "resize_param.height() > 0", where)
            check_gt(param.resize_param.width, 0, "resize_param.width() > 0", where)
            for name in ("height_scale", "width_scale", "pad_mode", "pad_value"):
                words = f"resize_param {{ {name} }} is for other modes than WARP {where}"
                given = any(field.name == name for field, _ in param.resize_param.ListFields())
                check(not given, "resize_mode != WARP", words)
            check(param.resize_param.prob == 1, "prob == 1", f"a batch has pictures of one size {where}")
        if param.HasField("distort_param"):
            check_distortion(param.distort_param, where)
        if param.HasField("expand_param"):
            check_ge(param.expand_param.max_expand_ratio, 1, "max_expand_ratio >= 1", where)

    def size(self, height: int, width: int) -> tuple[int, int] | None:
        """Return the size that a picture comes out with; None where that differs from sample to sample."""
        if self.param.HasField("resize_param"):
            return self.param.resize_param.height, self.param.resize_param.width
        return None if self.samplers or self.param.HasField("expand_param") else (height, width)

    def apply(self, boxed: Boxed, draws: Draws) -> Boxed:
        """Return a picture and its boxes, varied."""
        param = self.param
        if param.HasField("distort_param"):
            boxed = replace(boxed, picture=distort(boxed.picture, param.distort_param, draws))
        if param.HasField("expand_param"):
            boxed = self._expand(boxed, draws)
        parts = draw_parts(self.samplers, boxed.boxes, draws)
        if len(parts):
            boxed = self._cut(boxed, parts[draws.below(len(parts))])
        if param.HasField("resize_param"):
            boxed = replace(boxed, picture=warp(boxed.picture, param.resize_param, draws))
        if param.mirror and draws.happens(0.5):
            left, top, right, bottom = boxed.boxes.T
            mirrored = np.stack([1 - right, top, 1 - left, bottom], axis=1)
            boxed = replace(boxed, picture=np.ascontiguousarray(boxed.picture[:, :, ::-1]), boxes=mirrored)
        return boxed

    def _expand(self, boxed, draws):
        param = self.param.expand_param
        if not draws.happens(param.prob) or param.max_expand_ratio < 1.01:
            return boxed
        channels, height, width = boxed.picture.shape
        ratio = draws.uniform(1, param.max_expand_ratio)
        tall, wide = int(height * ratio), int(width * ratio)
        top, left = int(draws.uniform(0, tall - height)), int(draws.uniform(0, wide - width))
        plane = np.empty((channels, tall, wide), np.uint8)
        plane[...] = np.rint(np.array(self.param.mean_value or [0])).clip(0, 255).astype(np.uint8)[:, None, None]
        plane[:, top : top + height, left : left + width] = boxed.picture
        outer = np.array([-left / width, -top / height, (wide - left) / width, (tall - top) / height])
        return self._seen_from(replace(boxed, picture=plane), outer)

    def _cut(self, boxed, part):
        part = np.clip(part, 0, 1)
        height, width = boxed.picture.shape[1:]
        left, top = int(part[0] * width), int(part[1] * height)
        # A part of less than a pixel has one.
        left, top = min(left, width - 1), min(top, height - 1)
        wide, tall = (max(1, int(size)) for size in (part[2:] - part[:2]) * [width, height])
        picture = np.ascontiguousarray(boxed.picture[:, top : top + tall, left : left + wide])
        return self._seen_from(replace(boxed, picture=picture), part)

    def _seen_from(self, boxed, frame):
        """Return the boxes that a frame keeps, as shares of its sides."""
        stay = self._emitted(boxed.boxes, frame)
        sides = np.tile(frame[2:] - frame[:2], 2)
        boxes = np.clip((boxed.boxes - np.tile(frame[:2], 2)) / sides, 0, 1)
        stay &= (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        return replace(boxed, boxes=boxes[stay], labels=boxed.labels[stay])

    def _emitted(self, boxes, frame):
        if not self.param.HasField("emit_constraint"):
            return np.full(len(boxes), True)
        constraint = self.param.emit_constraint
        if constraint.emit_type == caffe_pb2.EmitConstraint.CENTER:
            centres = (boxes[:, :2] + boxes[:, 2:]) / 2
            return ((centres >= frame[:2]) & (centres <= frame[2:])).all(axis=1)
        inside = np.clip(np.minimum(boxes[:, 2:], frame[2:]) - np.maximum(boxes[:, :2], frame[:2]), 0, None)
        return inside.prod(axis=1) > constraint.emit_overlap * (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)


def warp(picture: np.ndarray, param: caffe_pb2.ResizeParameter, draws: Draws) -> np.ndarray:
    """Return a picture in the size of a resize_param, by one of its interpolations.

    LINEAR is OpenCV's; the others are Pillow's, which smooth where a picture becomes smaller.
    """
    from PIL import Image

    modes = list(param.interp_mode) or [Resize.LINEAR]
    mode = modes[draws.below(len(modes))] if len(modes) > 1 else modes[0]
    if mode == Resize.LINEAR:
        return resize(picture, param.height, param.width)
    filters = {
        Resize.AREA: Image.Resampling.BOX,
        Resize.NEAREST: Image.Resampling.NEAREST,
        Resize.CUBIC: Image.Resampling.BICUBIC,
        Resize.LANCZOS4: Image.Resampling.LANCZOS,
    }
    y = np.empty((len(picture), param.height, param.width), np.uint8)
    for plane, result in zip(picture, y, strict=True):
        result[...] = Image.fromarray(plane).resize((param.width, param.height), filters[mode])
    return y
