"""Transformer: pictures into a net's inputs and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from caffetools.pycaffe.interpolation import resize_image


class Transformer:
    """Turns pictures (H, W, channels) into what a net was trained on.

        transformer = caffe.io.Transformer({"data": net.blobs["data"].data.shape})
        transformer.set_transpose("data", (2, 0, 1))       # height x width x channels to channels first
        transformer.set_mean("data", mean)
        transformer.set_raw_scale("data", 255)             # from [0, 1] to [0, 255]
        transformer.set_channel_swap("data", (2, 1, 0))    # from RGB to BGR
        net.blobs["data"].data[...] = transformer.preprocess("data", picture)

    What is not set is left out; the order is always: resize, transpose, swap, raw scale, mean, input scale.

    inputs: the shapes (batch, channels, height, width) by the inputs' names. transpose, channel_swap,
    raw_scale, mean, input_scale: what is set, by the inputs' names.
    Errors: ValueError for a name that is no input and for settings that do not fit its shape.
    """

    def __init__(self, inputs: Mapping[str, Sequence[int]]):
        self.inputs = {name: tuple(shape) for name, shape in inputs.items()}
        self.transpose: dict[str, tuple[int, ...]] = {}
        self.channel_swap: dict[str, tuple[int, ...]] = {}
        self.raw_scale: dict[str, float] = {}
        self.mean: dict[str, np.ndarray] = {}
        self.input_scale: dict[str, float] = {}

    def preprocess(self, in_: str, data: np.ndarray) -> np.ndarray:
        """Return a picture as the input `in_` takes it: a new float32 array (channels, height, width)."""
        self._check_input(in_)
        x = np.array(data, np.float32)
        if x.shape[:2] != self.inputs[in_][2:]:
            x = resize_image(x, self.inputs[in_][2:])
        if in_ in self.transpose:
            x = x.transpose(self.transpose[in_])
        if in_ in self.channel_swap:
            x = x[list(self.channel_swap[in_])]
        if in_ in self.raw_scale:
            x *= self.raw_scale[in_]
        if in_ in self.mean:
            x -= self.mean[in_]
        if in_ in self.input_scale:
            x *= self.input_scale[in_]
        return x

    def deprocess(self, in_: str, data: np.ndarray) -> np.ndarray:
        """Return what an input holds, (channels, height, width) or a batch of one, as a picture again."""
        self._check_input(in_)
        x = np.array(data).squeeze()
        if in_ in self.input_scale:
            x /= self.input_scale[in_]
        if in_ in self.mean:
            x += self.mean[in_]
        if in_ in self.raw_scale:
            x /= self.raw_scale[in_]
        if in_ in self.channel_swap:
            x = x[np.argsort(self.channel_swap[in_])]
        if in_ in self.transpose:
            x = x.transpose(np.argsort(self.transpose[in_]))
        return x

    def set_transpose(self, in_: str, order: Sequence[int]) -> None:
        """Set the order of a picture's axes in the input: (2, 0, 1) puts the channels first."""
        self._check_input(in_)
        if len(order) != len(self.inputs[in_]) - 1:
            raise ValueError(
                f"Transpose order needs to have the same number of dimensions as the input. "
                f"({tuple(order)} vs. {self.inputs[in_][1:]})"
            )
        self.transpose[in_] = tuple(order)

    def set_channel_swap(self, in_: str, order: Sequence[int]) -> None:
        """Set which channels follow each other in the input: (2, 1, 0) makes RGB BGR.

        It works on the first axis, so set the transpose as well.
        """
        self._check_input(in_)
        if len(order) != self.inputs[in_][1]:
            raise ValueError(
                f"Channel swap needs to have the same number of dimensions as the input channels. "
                f"({len(order)} vs. {self.inputs[in_][1]})"
            )
        self.channel_swap[in_] = tuple(order)

    def set_raw_scale(self, in_: str, scale: float) -> None:
        """Set a factor that comes before the mean: 255 for pictures between 0 and 1."""
        self._check_input(in_)
        self.raw_scale[in_] = scale

    def set_mean(self, in_: str, mean: np.ndarray) -> None:
        """Set what is subtracted: (channels,), or (channels, H, W) or (H, W), resized to the input."""
        self._check_input(in_)
        mean = np.asarray(mean)
        shape = self.inputs[in_][1:]
        if mean.ndim == 1:
            if len(mean) != shape[0]:
                raise ValueError(f"Mean channels incompatible with input. ({len(mean)} vs. {shape[0]})")
            mean = mean[:, np.newaxis, np.newaxis]
        else:
            if mean.ndim == 2:
                mean = mean[np.newaxis]
            if mean.ndim != 3:
                raise ValueError(f"Mean shape invalid: {mean.shape} has not one to three axes")
            if len(mean) not in (1, shape[0]):
                raise ValueError(f"Mean channels incompatible with input. ({len(mean)} vs. {shape[0]})")
            if mean.shape[1:] != shape[1:]:
                mean = resize_image(mean.transpose(1, 2, 0), shape[1:]).transpose(2, 0, 1)
        self.mean[in_] = mean

    def set_input_scale(self, in_: str, scale: float) -> None:
        """Set a factor that comes last."""
        self._check_input(in_)
        self.input_scale[in_] = scale

    def _check_input(self, in_):
        if in_ not in self.inputs:
            raise ValueError(f"{in_} is not one of the net inputs: {', '.join(self.inputs)}")
