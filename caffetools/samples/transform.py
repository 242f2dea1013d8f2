"""The transformer of `transform_param`: from a decoded picture to what a net sees.

    y[c, h, w] = (x[c, top + h, left + w] - mean) * scale      with w counted from the right in a mirrored
    sample

`mean` is a picture of the uncropped size (`mean_file`; the window that is cut out of x is cut out of it too)
or a number for each channel (`mean_value`). A crop is square: at random in training, in the centre otherwise.
`mirror` flips every second sample on average, in tests as well, as in the original. `augmentation`, which the
original did not have, changes the picture before all this and the result after it (`augment.py`).

The random numbers of a sample depend on the layer's key and on the number of the sample in the run, and on
nothing else: any thread may transform any sample, and a resumed run only has to know how many samples went
before.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TypeAlias

import numpy as np

from caffetools import glog
from caffetools.engine.cpu.jit import kernel
from caffetools.engine.cpu.rng import mix, random_bits
from caffetools.formats import binary
from caffetools.formats import blob as blob_format
from caffetools.glog import check, check_eq, check_ge, check_gt, check_le
from caffetools.proto import caffe_pb2
from caffetools.samples.augment import Augmenter
from caffetools.samples.mixup import Mixup

Shape = tuple[int, int, int]  # channels, height, width
Buffer: TypeAlias = "bytes | np.ndarray"

# Which of a sample's random numbers serves what.
_MIRROR, _TOP, _LEFT = (np.uint64(i) for i in range(3))
_S32, _S63 = np.uint64(32), np.uint64(63)


#: Fields that SSD gave to `transform_param`, which change boxes along with pictures.
WITH_BOXES = ("resize_param", "noise_param", "distort_param", "expand_param", "emit_constraint", "crop_h", "crop_w")

#: Fields of data layers' own messages from the time before `transform_param`, and what to write instead. Files with V1
#: layers are upgraded when they are read; in a layer of today's form the original took no notice of them.
MOVED = {
    name: f"Write transform_param {{ {name}: ... }}" for name in ("scale", "mean_file", "crop_size", "mirror")
}


class Transformer:
    """Applies one `transform_param`.

    param: the message. phase: TRAIN or TEST. dtype: the net's. key: of the random numbers
    (`RandomSource.key`).
    noun: what error messages call a picture, "datum" or, once decoded, "img", as the original does.
    layer: the layer's name, for messages.
    Errors: FatalError for a mean given twice, a mean file that cannot be read, contradicting colour flags or
    augmentation.

    `mixup` is for whoever makes batches of the results, None where it is not asked for.
    """

    def __init__(
        self,
        param: caffe_pb2.TransformationParameter,
        phase: int,
        dtype,
        key: np.uint64,
        noun: str = "datum",
        layer: str = "",
    ):
        self.key = key
        self.noun = noun
        self.layer = layer
        self.dtype = np.dtype(dtype)
        self.scale = self.dtype.type(param.scale)
        self.crop = param.crop_size
        self.random_crop = phase == caffe_pb2.TRAIN
        self.mirror = param.mirror
        for name in WITH_BOXES:
            if param.HasField(name):
                words = "it is for AnnotatedData layers; see augmentation for what there is without boxes"
                glog.fatal(f"transform_param {{ {name} }} would have no effect: {words} (layer '{layer}')")
        check(
            not (param.force_color and param.force_gray),
            "!(param_.force_color() && param_.force_gray())",
            "cannot set both force_color and force_gray",
        )
        #: What to ask a decoder for: True three channels, False one, None whatever the picture has.
        self.color = True if param.force_color else False if param.force_gray else None
        self._mean_values = np.array(param.mean_value, self.dtype)
        self._mean_picture = None
        if param.HasField("mean_file"):
            words = "Cannot specify mean_file and mean_value at the same time"
            check_eq(len(param.mean_value), 0, "param_.mean_value_size() == 0", words)
            self._mean_picture = read_mean(param.mean_file, self.dtype)
        augmentation = param.augmentation
        has_mean_file = param.HasField("mean_file")
        self._augmenter = None
        if param.HasField("augmentation"):
            self._augmenter = Augmenter(augmentation, phase, self.crop, has_mean_file, layer)
        self.mixup = Mixup(augmentation.mixup, phase) if augmentation.HasField("mixup") else None

    def check_channels(self, channels: int, why: str) -> None:
        """Refuse force_color or force_gray for pictures that are not decoded here, and have other channels.

        why: how they came to have them, for the message. (The original took no notice.)
        """
        wanted = {True: 3, False: 1, None: channels}[self.color]
        if channels != wanted:
            name = "force_color" if self.color else "force_gray"
            glog.fatal(f"transform_param {{ {name} }} would have no effect: {why} (layer '{self.layer}')")

    def output_shape(self, shape: Shape) -> Shape:
        """Return the shape (channels, height, width) that a picture of `shape` comes out with.

        Errors: FatalError for a picture without channels, or one that is smaller than the crop.
        """
        channels, height, width = self._augmented(shape)
        noun, crop = self.noun, self.crop
        check_gt(channels, 0, f"{noun}_channels > 0")
        check_ge(height, crop, f"{noun}_height >= crop_size")
        check_ge(width, crop, f"{noun}_width >= crop_size")
        return (channels, crop, crop) if crop else (channels, height, width)

    def check_fits(self, shape: Shape, expected: Shape) -> None:
        """Refuse a picture of `shape` that does not come out as `expected`, or that the mean does not fit."""
        noun = self.noun
        channels, height, width = shape = self._augmented(shape)
        hint = "(pictures of different sizes need a crop_size, or batch_size: 1)"
        check_eq(expected[0], channels, f"channels == {noun}_channels")
        check_le(expected[1], height, f"height <= {noun}_height", hint)
        check_le(expected[2], width, f"width <= {noun}_width", hint)
        if not self.crop:
            check_eq(height, expected[1], f"{noun}_height == height", hint)
            check_eq(width, expected[2], f"{noun}_width == width", hint)
        if self._mean_picture is not None:
            hint = "(the mean file must have the size of the uncropped pictures)"
            for i, axis in enumerate(("channels", "height", "width")):
                check_eq(shape[i], self._mean_picture.shape[i], f"{noun}_{axis} == data_mean_.{axis}()", hint)
        check(
            self._mean_values.size in (0, 1, channels),
            f"mean_values_.size() == 1 || mean_values_.size() == {noun}_channels",
            f"Specify either 1 mean_value or as many as channels: {channels}",
        )

    def transform(
        self,
        shapes: Sequence[Shape],
        pictures: Sequence[Buffer],
        dtype: np.dtype,
        samples: np.ndarray,
        out: np.ndarray,
    ) -> None:
        """Transform pictures that have passed `check_fits` into `out`.

        pictures: contiguous buffers (bytes or arrays) of `dtype` (uint8 or float32), each of its `shapes`.
        samples: uint64, each picture's number in the run. out: (pictures, channels, height, width),
        contiguous. Releases the GIL while it works; several threads may call it at once.
        """
        if self._augmenter:
            pictures = self._augment(shapes, pictures, dtype, samples)
            shapes = [picture.shape for picture in pictures]
        # One call for many pictures: entering a kernel costs more time than a small picture.
        values = np.frombuffer(pictures[0] if len(pictures) == 1 else b"".join(pictures), dtype)
        values.flags.writeable = False  # as bytes are: the kernel is compiled for one kind of array
        if shapes.count(shapes[0]) == len(shapes):
            sizes = np.full((len(shapes), 2), shapes[0][1:])
            needed = prod(shapes[0]) * len(shapes)
        else:
            sizes = np.array([shape[1:] for shape in shapes])
            needed = sum(map(prod, shapes))
        check_eq(values.size, needed, "data.size() == channels * height * width")
        channels = out.shape[1]
        flat_out = out.reshape(len(shapes), -1)
        mean, key, scale = self._flat_mean(channels), self.key, self.scale
        options = (self.crop, self.random_crop, self.mirror)
        transform_pictures(values, channels, sizes, *options, mean, scale, key, samples, flat_out)
        if self._augmenter:
            for sample, y in zip(samples.tolist(), out, strict=True):
                self._augmenter.cut_out(y, mix(int(key), sample))

    def _augmented(self, shape: Shape) -> Shape:
        """The shape of a picture when its turn comes to be cropped."""
        return self._augmenter.size(shape) if self._augmenter and shape[0] > 0 else shape

    def _augment(self, shapes, pictures, dtype, samples) -> list[np.ndarray]:
        key = int(self.key)
        return [
            self._augmenter.apply(np.frombuffer(picture, dtype).reshape(shape), mix(key, sample))
            for picture, shape, sample in zip(pictures, shapes, samples.tolist(), strict=True)
        ]

    def _flat_mean(self, channels: int) -> np.ndarray:
        """The mean of each pixel, or of each channel."""
        if self._mean_picture is not None:
            return self._mean_picture.reshape(-1)
        mean = np.zeros(channels, self.dtype)
        if self._mean_values.size:
            mean[:] = self._mean_values
        return mean


def read_mean(path: str, dtype: np.dtype) -> np.ndarray:
    """Read a mean picture of shape (channels, height, width), or (1, channels, height, width)."""
    glog.info(f"Loading mean file from: {path}")
    mean = blob_format.to_array(binary.read(path, caffe_pb2.BlobProto))
    shape = mean.shape[1:] if mean.ndim == 4 and mean.shape[0] == 1 else mean.shape
    check_eq(len(shape), 3, "data_mean_.num_axes() == 3", f"{path} holds no mean picture but {mean.shape}")
    return np.ascontiguousarray(mean.reshape(shape), dtype)


@kernel
def random_below(key, index, bound):
    """Return number `index` of the stream `key` as an int64 in [0, bound), bound < 2^31."""
    return np.int64(((random_bits(key, index) >> _S32) * np.uint64(bound)) >> _S32)


@kernel
def transform_pictures(x, channels, sizes, crop, random_crop, mirror, mean, scale, key, samples, y):
    """Transform the pictures that lie one after the other in x, each of sizes[i], into the rows of y."""
    start = 0
    for i in range(sizes.shape[0]):
        height, width = sizes[i, 0], sizes[i, 1]
        draws = random_bits(key, samples[i])
        out_height, out_width, top, left = height, width, 0, 0
        if crop > 0:
            out_height, out_width = crop, crop
            if random_crop:
                top = random_below(draws, _TOP, height - crop + 1)
                left = random_below(draws, _LEFT, width - crop + 1)
            else:
                top, left = (height - crop) // 2, (width - crop) // 2
        flip = mirror and random_bits(draws, _MIRROR) >> _S63 != np.uint64(0)
        for c in range(channels):
            for h in range(out_height):
                row = (c * height + top + h) * width + left
                out = (c * out_height + h) * out_width
                if mean.size == channels:
                    for w in range(out_width):
                        y[i, out + w] = (y.dtype.type(x[start + row + w]) - mean[c]) * scale
                else:
                    for w in range(out_width):
                        y[i, out + w] = (y.dtype.type(x[start + row + w]) - mean[row + w]) * scale
                if flip:
                    for w in range(out_width // 2):
                        other = out + out_width - 1 - w
                        y[i, out + w], y[i, other] = y[i, other], y[i, out + w]
        start += channels * height * width
