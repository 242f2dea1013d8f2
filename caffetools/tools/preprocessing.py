"""From a picture file to what a net for use takes: the picture's way at test time, without a data layer.

What is done says a file beside the net's prototxt, if there is one: `deploy.transform.prototxt` for
`deploy.prototxt`, with the fields of a data layer's `transform_param`. Without crop_size and resize_short in it,
and without the file, the whole picture is resized to the net's input, as the original's example did it.
"""

from __future__ import annotations

import os

import numpy as np

from caffetools.formats import binary, prototxt
from caffetools.formats import blob as blob_format
from caffetools.glog import check, check_eq, fatal
from caffetools.layer import TEST
from caffetools.proto import caffe_pb2
from caffetools.samples.decode import decode
from caffetools.samples.transform import Transformer


class Preprocessor:
    """Makes the input of a net from picture files; may be called in several threads at once.

    shape: channels, height and width of the input; 1 channel is gray, 3 are blue, green and red. transform: the
    message of the side file, if there is one; its name is `source`.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        transform: caffe_pb2.TransformationParameter | None = None,
        source: str = "",
    ):
        self.shape = shape
        self.source = source
        param = transform or caffe_pb2.TransformationParameter()
        param.mirror = False  # at random, which predictions must not be
        self.transformer = Transformer(param, TEST, np.float32, np.uint64(0), "img")
        sized = param.crop_size or param.augmentation.resize_short
        self.size = (0, 0) if sized else shape[1:]

    def __call__(self, data: bytes) -> np.ndarray:
        """Return the input that the contents of a picture file become, float32 (channels, height, width).

        Errors: FatalError for what is no picture, or does not come out with the shape of the input.
        """
        picture = decode(data, self.shape[0] == 3, *self.size)
        shape = self.transformer.output_shape(picture.shape)
        if shape != self.shape:
            fatal(
                f"the picture becomes {_text(shape)} by {self.source}, but the net takes {_text(self.shape)}"
            )
        self.transformer.check_fits(picture.shape, shape)
        out = np.empty((1, *shape), np.float32)
        self.transformer.transform([picture.shape], [picture], picture.dtype, np.zeros(1, np.uint64), out)
        return out[0]


def side_file(net: str) -> str:
    """Return the name of the file that describes the pictures of a net, whether it is there or not."""
    return f"{net.removesuffix('.prototxt')}.transform.prototxt"


def load(net: str, shape: tuple[int, int, int], mean: str) -> Preprocessor:
    """Return the preprocessor of the net in the prototxt `net`.

    shape: of its input. mean: what is subtracted from each channel: a number for all or one for each,
    comma-separated, or a mean file, of which the mean of each channel is taken; "" leaves it to the side file.
    Errors: FatalError for files that cannot be read or do not fit.
    """
    source = side_file(net)
    param = caffe_pb2.TransformationParameter()
    if os.path.exists(source):
        param = prototxt.read(source, caffe_pb2.TransformationParameter)
    if mean:
        param.ClearField("mean_file")
        del param.mean_value[:]
        param.mean_value.extend(read_channel_means(mean, shape[0]))
    return Preprocessor(shape, param, source)


def read_channel_means(mean: str, channels: int) -> list[float]:
    """Return a mean for each channel, of numbers ("104,117,123") or of a file's mean picture."""
    values = _numbers(mean)
    if values is None:
        picture = blob_format.to_array(binary.read(mean, caffe_pb2.BlobProto))
        found = picture.shape[-3] if picture.ndim in (3, 4) else 0
        check_eq(
            found,
            channels,
            "mean_blob.channels() == num_channels_",
            f"Number of channels of mean file doesn't match input layer. ({mean})",
        )
        return picture.reshape(channels, -1).mean(axis=1, dtype=np.float64).tolist()
    check(
        len(values) in (1, channels),
        "mean_values_.size() == 1 || mean_values_.size() == num_channels_",
        f"Give one mean value, or one for each of {channels} channels: '{mean}'",
    )
    return values


def _numbers(text: str) -> list[float] | None:
    """The numbers of a comma list, or None for what must be the name of a file."""
    if os.path.exists(text):
        return None
    try:
        return [float(word) for word in text.split(",")]
    except ValueError:
        return None


def _text(shape):
    return " x ".join(map(str, shape))
