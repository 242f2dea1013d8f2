"""What the scripts for pictures share: settings as they are typed, labels, and failures in one line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from caffetools.formats import binary
from caffetools.glog import FatalError, fatal
from caffetools.proto import caffe_pb2
from caffetools.pycaffe import io, mode
from caffetools.pycaffe.classifier import PictureNet

N = TypeVar("N", bound=PictureNet)


@contextmanager
def one_line_failures() -> Iterator[None]:
    """Turn what the Python interface raises for bad arguments and files into FatalError."""
    try:
        yield
    except (ValueError, ImportError, OSError) as err:
        filename = getattr(err, "filename", None)  # of the system's errors, which begin with a number
        raise FatalError(f"{filename}: {err.strerror}" if filename else str(err)) from err


@dataclass(frozen=True)
class PictureSettings:
    """What a net takes, as texts from a command line; "" stands for nothing.

    mean_file: a .npy or .binaryproto file, or numbers for the channels. raw_scale, input_scale: factors.
    channel_swap: the order of the channels; a net of one channel takes no notice of it.
    """

    mean_file: str = ""
    input_scale: str = ""
    raw_scale: str = "255.0"
    channel_swap: str = "2,1,0"

    def build(self, kind: type[N], model_def: str, pretrained_model: str, **more: Any) -> N:
        """Return a classifier or detector with these settings. Errors: FatalError for those that do not fit the net."""
        for flag, file in {"model_def": model_def, "pretrained_model": pretrained_model}.items():
            if not file:
                fatal(f"--{flag} is needed: give it a file")
        mean = _mean(self.mean_file)
        input_scale, raw_scale = (
            _number(self.input_scale, "input_scale"),
            _number(self.raw_scale, "raw_scale"),
        )
        swap = integers(self.channel_swap, "channel_swap")
        with one_line_failures():
            net = kind(
                model_def, pretrained_model, mean=mean, input_scale=input_scale, raw_scale=raw_scale, **more
            )
            if swap and net.takes_color:
                net.transformer.set_channel_swap(net.inputs[0], swap)
        return net


def choose_mode(gpu: bool) -> None:
    """Say which mode the net runs in. Errors: FatalError where it is the GPU's and there is none."""
    if gpu:
        mode.set_mode_gpu()
    print("GPU mode" if gpu else "CPU mode")


def integers(text: str, flag: str) -> tuple[int, ...]:
    """Return the numbers of a comma list."""
    try:
        return tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError:
        fatal(f"--{flag}={text}: whole numbers with commas between them are expected")


def load_labels(path: str, classes: int) -> list[str]:
    """Return the names of classes, a line each; without a file their numbers.

    Errors: FatalError for another number of lines.
    """
    if not path:
        return [f"class{number}" for number in range(classes)]
    with one_line_failures(), open(path, encoding="utf-8") as file:
        labels = file.read().splitlines()
    if len(labels) != classes:
        fatal(
            f"Number of labels is different from the output layer dimension. "
            f"({path} has {len(labels)} lines, the net's output {classes} classes)"
        )
    return labels


def best(scores: np.ndarray, count: int) -> Sequence[int]:
    """Return where the largest values are, the largest first."""
    return np.argsort(-scores, kind="stable")[:count].tolist()


def _number(text, flag):
    try:
        return float(text) if text else None
    except ValueError:
        fatal(f"--{flag}={text}: a number is expected")


def _mean(text):
    if not text:
        return None
    with one_line_failures():
        if text.endswith(".npy"):
            return np.load(text)
        if text.endswith(".binaryproto"):
            mean = io.blobproto_to_array(binary.read(text, caffe_pb2.BlobProto))
            return mean[0] if mean.ndim == 4 else mean
    try:
        return np.array([float(part) for part in text.split(",")])
    except ValueError:
        fatal(
            f"--mean_file={text}: a .npy file, a .binaryproto file, or numbers for the channels are expected"
        )
