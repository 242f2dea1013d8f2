"""Classifier: pictures in, probabilities out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from caffetools.proto.caffe_pb2 import TEST
from caffetools.pycaffe import io
from caffetools.pycaffe.net import Net, Path


class PictureNet(Net):
    """A net in the phase TEST whose first input takes pictures.

    transformer: what turns a picture, as `io.load_image` gives it, into that input. mean, input_scale, raw_scale,
    channel_swap: settings of it. crop_dims: height and width of the input.
    """

    def __init__(
        self,
        model_file: Path,
        pretrained_file: Path,
        mean: np.ndarray | None = None,
        input_scale: float | None = None,
        raw_scale: float | None = None,
        channel_swap: Sequence[int] | None = None,
    ):
        super().__init__(model_file, TEST, weights=pretrained_file)
        if not self.inputs:
            raise ValueError(
                f"{model_file} has no input: a net for pictures begins with a layer of the type Input"
            )
        name = self.inputs[0]
        shape = self.blobs[name].shape
        if len(shape) != 4:
            raise ValueError(f"The input '{name}' of {model_file} takes no pictures: its shape is {shape}")
        self.transformer = io.Transformer({name: shape})
        self.transformer.set_transpose(name, (2, 0, 1))
        settings = {
            self.transformer.set_mean: mean,
            self.transformer.set_input_scale: input_scale,
            self.transformer.set_raw_scale: raw_scale,
            self.transformer.set_channel_swap: channel_swap,
        }
        for setter, value in settings.items():
            if value is not None:
                setter(name, value)

    @property
    def takes_color(self) -> bool:
        """Whether its pictures have colours, not one channel of gray."""
        return self.blobs[self.inputs[0]].shape[1] > 1

    def outputs_of(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """Return the first output for pictures of the input's size, or of any: (n, ...)."""
        name = self.inputs[0]
        x = np.empty((len(pictures), *self.blobs[name].shape[1:]), np.float32)
        for row, picture in zip(x, pictures, strict=True):
            values = self.transformer.preprocess(name, picture)
            if values.shape != row.shape:
                raise ValueError(
                    f"A picture of {picture.shape} becomes {values.shape}, but the input '{name}' takes {row.shape}"
                )
            row[...] = values
        return self.forward_all(**{name: x})[self.outputs[0]]


class Classifier(PictureNet):
    """Classifies pictures, by the mean of ten crops of each or by its centre.

        classifier = caffe.Classifier("deploy.prototxt", "net.caffemodel", (256, 256), mean, None, 255, (2, 1, 0))
        probabilities = classifier.predict([caffe.io.load_image("cat.jpg")])

    image_dims: the height and width to which pictures are resized before they are cropped; those of the input by
    default. mean, input_scale, raw_scale, channel_swap: settings of the transformer.
    """

    def __init__(
        self,
        model_file: Path,
        pretrained_file: Path,
        image_dims: Sequence[int] | None = None,
        mean: np.ndarray | None = None,
        input_scale: float | None = None,
        raw_scale: float | None = None,
        channel_swap: Sequence[int] | None = None,
    ):
        super().__init__(model_file, pretrained_file, mean, input_scale, raw_scale, channel_swap)
        self.crop_dims = np.array(self.blobs[self.inputs[0]].shape[2:])
        self.image_dims = tuple(self.crop_dims if image_dims is None else image_dims)
        if (self.crop_dims > self.image_dims).any():
            raise ValueError(
                f"image_dims {self.image_dims} are smaller than the net's input {tuple(self.crop_dims)}"
            )

    def predict(self, inputs: Sequence[np.ndarray], oversample: bool = True) -> np.ndarray:
        """Return the probabilities of the classes, (n, classes).

        inputs: n pictures (H, W, channels). oversample: whether to take the mean of ten crops (corners and centre,
        and the same mirrored), or the centre alone.
        """
        if not len(inputs):
            raise ValueError("There are no pictures to classify")
        resized = [io.resize_image(picture, self.image_dims) for picture in inputs]
        if oversample:
            predictions = self.outputs_of(io.oversample(resized, self.crop_dims))
            return predictions.reshape(len(resized), 10, -1).mean(1)
        height, width = (int(size) for size in self.crop_dims)
        top, left = (int(more) // 2 for more in np.array(self.image_dims) - self.crop_dims)
        predictions = self.outputs_of([x[top : top + height, left : left + width] for x in resized])
        return predictions.reshape(len(resized), -1)
