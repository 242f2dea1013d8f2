"""WindowData: windows cut out of pictures and warped to one size, for R-CNN (Girshick et al. 2014).

    top[0]  (batch_size, 3, crop_size, crop_size)  windows, minus the mean; zero where they leave the picture
    top[1]  (batch_size)                           their classes; 0 is the background

The source lists pictures and their windows (`formats/window_file.py`). A window whose overlap with an object
is at least fg_threshold is foreground, another one below bg_threshold background. Of a batch,
floor(fg_fraction * batch_size) windows are foreground; they stand behind the background ones, and all are
drawn at random.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import NamedTuple

import numpy as np

from caffetools import glog
from caffetools.engine.cpu.rng import mix
from caffetools.formats import window_file
from caffetools.glog import check, check_eq, check_gt
from caffetools.samples.picture_data import (
    ALL_BUT_PREFETCH,
    Batch,
    Loader,
    PictureDataLayer,
    decode,
    read_bytes,
)
from caffetools.samples.resize import resize
from caffetools.samples.transform import MOVED, WITH_BOXES, read_mean

CROP_MODES = ("warp", "square")

# Which random number of an item serves what.
_WINDOW, _MIRROR = 0, 1


class WindowDataLayer(PictureDataLayer):
    reads = ("window_data_param", "transform_param", "data_param")
    refuses = {
        "window_data_param": {name: words for name, words in MOVED.items() if name != "scale"},
        # Files with V1 layers lose it when they are upgraded, as they did in the original.
        "transform_param": {
            "scale": "Write window_data_param { scale: ... }",
            "force_gray": "Remove it: windows are cut out of pictures in colour",
            **dict.fromkeys(
                ("augmentation", *WITH_BOXES),
                "Remove it: windows are warped and flipped as window_data_param and mirror say",
            ),
        },
        "data_param": ALL_BUT_PREFETCH,
    }

    def setup(self, bottom, top):
        param, transform_param = self.param.window_data_param, self.param.transform_param
        if param.crop_mode not in CROP_MODES:
            words = f"Unknown crop_mode: {param.crop_mode} (known modes: {', '.join(CROP_MODES)})"
            glog.fatal(f"{words} (layer '{self.name}')")
        glog.info(
            "Window data layer:\n"
            f"  foreground (object) overlap threshold: {param.fg_threshold:g}\n"
            f"  background (non-object) overlap threshold: {param.bg_threshold:g}\n"
            f"  foreground sampling fraction: {param.fg_fraction:g}\n"
            f"  cache_images: {param.cache_images:d}\n"
            f"  root_folder: {param.root_folder}"
        )
        windows = read_windows(param)
        glog.info(f"Amount of context padding: {param.context_pad}")
        glog.info(f"Crop mode: {param.crop_mode}")
        size = transform_param.crop_size
        check_gt(size, 0, "crop_size > 0", f"(layer '{self.name}')")
        check_gt(size, 2 * param.context_pad, "crop_size > 2 * context_pad", f"(layer '{self.name}')")
        mean = self._mean(transform_param, size)
        loader = WindowLoader(windows, param, transform_param, mean, self.context.random.key(), self.dtype)
        self.start(loader, (param.batch_size, 3, size, size), top)

    def _mean(self, param, size):
        """Return what is subtracted from a window, in a shape that NumPy broadcasts."""
        values = np.array(param.mean_value, self.dtype)
        if param.HasField("mean_file"):
            words = "Cannot specify mean_file and mean_value at the same time"
            check(not values.size, "has_mean_file_ == false", words)
            mean = read_mean(param.mean_file, self.dtype)
            start = (mean.shape[2] - size) // 2  # of the width on both axes, as in the original
            mean = mean[:, max(start, 0) : start + size, max(start, 0) : start + size]
            words = f"the mean file must be at least as large as the windows (layer '{self.name}')"
            check_eq(mean.shape, (3, size, size), "data_mean_.shape()", words)
            return mean
        words = "Specify either 1 mean_value or as many as channels: 3"
        check(values.size in (0, 1, 3), "mean_values_.size() == 1 || mean_values_.size() == channels", words)
        return np.broadcast_to(values if values.size else self.dtype.type(0), 3).reshape(3, 1, 1)


class Windows(NamedTuple):
    """What a source says. foreground, background: int64 (windows, 6), picture, class, x1, y1, x2, y2."""

    paths: list[str]
    foreground: np.ndarray
    background: np.ndarray


class WindowLoader(Loader):
    """Draws windows, cuts them out and warps them."""

    def __init__(self, windows: Windows, param, transform_param, mean, key, dtype):
        super().__init__(param.batch_size, key)
        self.windows = windows
        self.size = transform_param.crop_size
        self.mirror = transform_param.mirror
        self.mean = mean
        self.scale = dtype.type(param.scale)
        self.context_pad = param.context_pad
        self.square = param.crop_mode == "square"
        foreground_count = int(np.float32(param.batch_size) * np.float32(param.fg_fraction))
        self.background_count = param.batch_size - foreground_count
        # Encoded, as they are in the files.
        self.cache = [read_bytes(path) for path in windows.paths] if param.cache_images else None

    def load(self, samples, batch: Batch):
        size = self.size
        batch.data.reshape((len(samples), 3, size, size))
        batch.label.reshape((len(samples),))
        y, label = batch.data.data, batch.label.data
        y.fill(0)
        for i, sample in enumerate(samples):
            draws = mix(int(self.key), int(sample))
            kind = self.windows.background if i < self.background_count else self.windows.foreground
            picture, label[i], *box = kind[mix(draws, _WINDOW) % len(kind)].tolist()
            flip = self.mirror and mix(draws, _MIRROR) >> 63
            patch, top, left = self._cut(self._picture(picture), box, flip, self.windows.paths[picture])
            place = np.s_[:, top : top + patch.shape[1], left : left + patch.shape[2]]
            mean = self.mean[place] if self.mean.shape[1] > 1 else self.mean
            y[i][place] = (patch - mean) * self.scale

    def _picture(self, index):
        path = self.windows.paths[index]
        return decode(self.cache[index] if self.cache else read_bytes(path), True, path)

    def _cut(self, picture, box, flip, path):
        """Return a window in its new size, uint8 (3, height, width), and its first row and column."""
        height, width = picture.shape[1:]
        x1, y1, x2, y2 = box
        new_height = new_width = self.size
        top = left = 0
        if self.context_pad or self.square:
            (x1, x2), (y1, y2) = self._expand(box)
            x1, x2, left, right, new_width = fit(x1, x2, width, self.size)
            y1, y2, top, _, new_height = fit(y1, y2, height, self.size)
            if flip:
                left = right
            new_width = min(new_width, self.size - left)
            new_height = min(new_height, self.size - top)
        if not (0 <= x1 <= x2 < width and 0 <= y1 <= y2 < height):
            glog.fatal(f"Window {box} is not within {path}, of width {width} and height {height}")
        if min(new_height, new_width) < 1:
            return picture[:, :0, :0], 0, 0  # all but a rest that vanishes lies outside
        patch = resize(picture[:, y1 : y2 + 1, x1 : x2 + 1], new_height, new_width)
        return patch[:, :, ::-1] if flip else patch, top, left

    def _expand(self, box):
        """Return the ends (x1, x2) and (y1, y2) of a window with its context, or made square.

        After warping there are `context_pad` pixels of context on each side.
        """
        # In float32, since the ends are rounded.
        f = np.float32
        scale = f(self.size) / f(self.size - 2 * self.context_pad)
        halves = [f(box[i + 2] - box[i] + 1) / f(2) for i in range(2)]
        centers = [f(box[i]) + halves[i] for i in range(2)]
        if self.square:
            halves = [max(halves)] * 2
        return [
            (rounded(c - h * scale), rounded(c + h * scale)) for c, h in zip(centers, halves, strict=True)
        ]


def fit(start: int, end: int, limit: int, size: int) -> tuple[int, int, int, int, int]:
    """Clip the pixels start to end to 0 .. limit - 1.

    Return start and end of what is left and, in pixels of a window that is warped to `size`, what is missing
    before and behind it and its length.
    """
    scale = np.float32(size) / np.float32(end - start + 1)
    before, behind = max(0, -start), max(0, end - limit + 1)
    start, end = start + before, end - behind
    return start, end, *(rounded(np.float32(n) * scale) for n in (before, behind, end - start + 1))


def rounded(value: float) -> int:
    """Return the nearest whole number, halves away from zero, as C rounds."""
    return int(math.copysign(math.floor(abs(float(value)) + 0.5), value))


def read_windows(param) -> Windows:
    """Read the source of a WindowDataParameter and log how many windows of each class there are.

    Errors: FatalError for a file that is no list of windows, or one without foreground or background windows,
    for pictures that are not in colour, and for foreground windows of the class 0.
    """
    paths, foreground, background = [], [], []
    counts = Counter({0: 0})
    for entry in window_file.read(param.source):
        path = param.root_folder + entry.path
        where = f"({param.source}, picture {entry.index})"
        check_eq(entry.channels, 3, "channels", f"windows are cut out of pictures in colour {where}")
        windows = np.column_stack([np.full(len(entry.labels), len(paths)), entry.labels, entry.boxes])
        is_foreground = entry.overlaps >= np.float32(param.fg_threshold)
        is_background = (entry.overlaps < np.float32(param.bg_threshold)) & ~is_foreground
        foreground.append(windows[is_foreground])
        background.append(windows[is_background])
        paths.append(path)
        lowest = foreground[-1][:, 1].min(initial=1)
        check_gt(lowest, 0, "label > 0", f"the class of a foreground window {where}")
        background[-1][:, 1] = 0
        counts.update(foreground[-1][:, 1].tolist())
        counts[0] += len(background[-1])
        if entry.index % 100 == 0:
            size = f"{entry.channels} {entry.height} {entry.width}"
            glog.info(f"num: {entry.index} {path} {size} windows to process: {len(windows)}")
    glog.info(f"Number of images: {len(paths)}")
    for label, count in sorted(counts.items()):
        glog.info(f"class {label} has {count} samples")
    result = Windows(paths, np.concatenate(foreground), np.concatenate(background))
    check_gt(len(result.foreground), 0, "fg_windows_.size() > 0", f"{param.source} has no foreground windows")
    check_gt(len(result.background), 0, "bg_windows_.size() > 0", f"{param.source} has no background windows")
    return result
