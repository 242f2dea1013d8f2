"""Augmentation: pictures varied at random in training, as `transform_param.augmentation` asks for.

A picture passes, in this order, through those steps that are set:

    resize_short          the shorter side gets this length; in tests too
    max_rotation          a turn by an angle drawn evenly from -max to max degrees (`rotation.py`)
    random_resized_crop   a window whose share of the area is drawn evenly and whose aspect evenly on a
                          logarithmic scale, resized to crop_size x crop_size (Szegedy et al. 2015)
    brightness, contrast, saturation, hue     factors and a turn, drawn evenly (`color_jitter.py`)
    (the transformer's crop, mirror, mean and scale)
    cutout                squares with even random centres set to zero (DeVries and Taylor 2017); with the mean
                          subtracted, zero is the mean. A square may reach over the edge.
    mixup                 of whole batches (`mixup.py`)

Where random_resized_crop is set, it chooses its window from the picture's full size, and resize_short is for
tests alone: one file then serves both phases.

What a sample's picture becomes depends on its random numbers, that is on the layer's key and the number of the
sample in the run, and on nothing else.
"""

from __future__ import annotations

from math import exp, inf, log, sqrt

import numpy as np

from caffetools.engine.cpu.rng import mix
from caffetools.glog import fatal
from caffetools.layer import TRAIN
from caffetools.proto import caffe_pb2
from caffetools.samples.color_jitter import jitter
from caffetools.samples.resample import Box, resample
from caffetools.samples.rotation import rotate

# Which of a sample's random numbers serves what; the transformer's own crop and mirror have those below.
_ANGLE, _BRIGHTNESS, _CONTRAST, _SATURATION, _HUE, _WINDOW, _HOLES = 16, 17, 18, 19, 20, 32, 128
_ATTEMPTS = 10  # to find a window that fits

Shape = tuple[int, int, int]  # channels, height, width


class Augmenter:
    """Applies an AugmentationParameter, but for mixup, to one picture at a time.

    phase: TRAIN or TEST. crop: the transformer's crop_size, 0 for none. has_mean_file: whether a mean picture is
    subtracted. layer: a name for messages. Errors: FatalError for values out of range and for settings that
    contradict each other.
    """

    def __init__(
        self,
        param: caffe_pb2.AugmentationParameter,
        phase: int,
        crop: int,
        has_mean_file: bool = False,
        layer: str = "",
    ):
        self.name = f"transform_param.augmentation of layer '{layer}'"
        _check(param, crop, has_mean_file, self.name)
        self.crop = crop
        self.random = phase == TRAIN
        self.window = (
            param.random_resized_crop if self.random and param.HasField("random_resized_crop") else None
        )
        self.short = 0 if self.window else param.resize_short
        self.max_rotation = param.max_rotation
        self.factors = [(_BRIGHTNESS, param.brightness), (_CONTRAST, param.contrast)]
        self.factors += [(_SATURATION, param.saturation)]
        self.hue = param.hue
        self.needs_color = bool(param.saturation or param.hue)
        cutout = param.cutout if self.random and param.HasField("cutout") else None
        self.hole_size, self.holes = (cutout.size, cutout.holes) if cutout else (0, 0)

    def size(self, shape: Shape) -> Shape:
        """Return the shape in which a picture of `shape` reaches the transformer's own crop.

        Errors: FatalError for a picture that is not in colour, where saturation or hue is set.
        """
        channels, height, width = shape
        if self.needs_color and channels != 3:
            fatal(f"{self.name}: saturation and hue need pictures of 3 channels, not {channels}")
        if self.window:
            return channels, self.crop, self.crop
        if self.short:
            short = min(height, width)
            return channels, _scaled(height, self.short, short), _scaled(width, self.short, short)
        return shape

    def apply(self, picture: np.ndarray, draws: int) -> np.ndarray:
        """Return a picture (channels, height, width; contiguous, uint8 or float32) varied.

        draws: the key of the sample's random numbers. May be called from several threads at once.
        """
        height, width = self.size(picture.shape)[1:]
        if not self.random:
            return resample(picture, height, width)
        if self.short:
            picture = resample(picture, height, width)
        if self.max_rotation:
            picture = rotate(picture, self.max_rotation * _signed(draws, _ANGLE))
        if self.window:
            box = draw_window(self.window, *picture.shape[1:], draws)
            picture = resample(picture, self.crop, self.crop, box)
        factors = [max(0.0, 1 + value * _signed(draws, use)) for use, value in self.factors]
        return jitter(picture, *factors, self.hue * _signed(draws, _HUE))

    def cut_out(self, y: np.ndarray, draws: int) -> None:
        """Set squares of y (channels, height, width), which is what the net will see, to zero."""
        height, width = y.shape[1:]
        for i in range(self.holes):
            top = mix(draws, _HOLES + 2 * i) % height - self.hole_size // 2
            left = mix(draws, _HOLES + 2 * i + 1) % width - self.hole_size // 2
            y[:, max(0, top) : top + self.hole_size, max(0, left) : left + self.hole_size] = 0


def draw_window(param: caffe_pb2.RandomResizedCropParameter, height: int, width: int, draws: int) -> Box:
    """Return a window of a picture of height x width.

    Windows that do not fit are drawn again. If none does, the window is the largest in the centre whose aspect
    is within the bounds.
    """
    low, high = log(param.min_aspect), log(param.max_aspect)
    for first in range(_WINDOW, _WINDOW + 4 * _ATTEMPTS, 4):
        area = param.min_area + (param.max_area - param.min_area) * _uniform(draws, first)
        aspect = exp(low + (high - low) * _uniform(draws, first + 1))
        w, h = sqrt(area * height * width * aspect), sqrt(area * height * width / aspect)
        if w <= width and h <= height:
            left, top = (width - w) * _uniform(draws, first + 2), (height - h) * _uniform(draws, first + 3)
            return left, top, min(left + w, width), min(top + h, height)
    aspect = min(max(width / height, param.min_aspect), param.max_aspect)
    w, h = min(width, height * aspect), min(height, width / aspect)
    return (width - w) / 2, (height - h) / 2, (width + w) / 2, (height + h) / 2


def _check(param, crop, has_mean_file, name):
    """Refuse what cannot be meant."""
    window, cutout, mixup = param.random_resized_crop, param.cutout, param.mixup
    has_window = param.HasField("random_resized_crop")
    rules = (
        (0 <= param.max_rotation <= 180, "max_rotation must be from 0 to 180 degrees"),
        (all(0 <= value < inf for value in (param.brightness, param.contrast, param.saturation)),
         "brightness, contrast and saturation must not be negative: factors are drawn from 1 - value to 1 + value"),
        (0 <= param.hue <= 0.5, "hue must be from 0 to 0.5 of a full turn"),
        (0 < window.min_area <= window.max_area <= 1, "random_resized_crop needs 0 < min_area <= max_area <= 1"),
        (0 < window.min_aspect <= window.max_aspect < inf, "random_resized_crop needs 0 < min_aspect <= max_aspect"),
        (crop or not has_window, "random_resized_crop needs transform_param.crop_size, the size of its result"),
        (not (has_window and has_mean_file), "random_resized_crop and mean_file contradict each other: a pixel "
         "of the result has no fixed place in the mean. Give mean_value instead"),
        (not param.resize_short or crop <= param.resize_short,
         f"crop_size: {crop} is larger than resize_short: {param.resize_short}"),
        (cutout.size > 0 and cutout.holes > 0, "cutout needs a size and holes above 0"),
        (not (crop and param.HasField("cutout")) or cutout.size < crop,
         f"cutout of size: {cutout.size} covers all of crop_size: {crop}"),
        (0 < mixup.alpha < inf, "mixup needs an alpha above 0"),
    )  # fmt: skip
    for holds, message in rules:
        if not holds:
            fatal(f"{name}: {message}")


def _scaled(side, new, old):
    return (2 * side * new + old) // (2 * old)  # rounded


def _uniform(draws, use):
    return (mix(draws, use) >> 11) * 2.0**-53


def _signed(draws, use):
    return 2 * _uniform(draws, use) - 1
