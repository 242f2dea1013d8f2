"""`classification`: what a trained net says of pictures.

The net has one input, a picture of one channel (gray) or three (blue, green, red), and one output, a score for
each label.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np

from caffetools.formats.files import reason
from caffetools.glog import FatalError, check, check_eq, fatal
from caffetools.layer import TEST, Context
from caffetools.net import Net, load_net
from caffetools.tools import engines, partial_sort, preprocessing
from caffetools.tools.ordered_map import ordered_map
from caffetools.tools.preprocessing import Preprocessor

#: Files of a folder that are taken for pictures.
EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


class Score(NamedTuple):
    """A label and what the net gives it."""

    label: str
    score: float


class Result(NamedTuple):
    """A picture file and its best labels, best first, or why there are none."""

    file: str
    scores: list[Score]
    problem: str = ""


def classify(
    model: str,
    weights: str,
    mean: str,
    labels: str,
    pictures: Sequence[str],
    top: int = 5,
    batch: int = 8,
    gpu: str = "",
) -> Iterator[Result]:
    """Yield a result for each picture.

    model: the net's prototxt, whose side file, if any, says how pictures are prepared. weights: one file. mean:
    see `preprocessing.load`. labels: a text file with a line for each. pictures: files and folders of them. top:
    how many labels. batch: pictures that go through the net at once. gpu: the device to use.
    Errors: FatalError for a net, mean or labels that do not fit each other, before the first result; a picture
    that cannot be read is a result with a problem.
    """
    check(top > 0, "FLAGS_top > 0", f"--top={top} leaves no label")
    check(batch > 0, "FLAGS_batch > 0", f"--batch={batch} leaves no picture")
    engine = None
    if gpu:
        engine = engines.choose(gpu)
    net = load_net(model, TEST, Context(engine=engine), stages=(), plan=True)
    try:
        net.copy_from(weights)
        preprocessor = _preprocessor(net, model, mean)
        names = _read_labels(labels, net)
        files = find_pictures(pictures)
        prepared = ordered_map(lambda file: _prepare(file, preprocessor), files)
        while chunk := list(islice(prepared, batch)):
            yield from _classify(net, chunk, names, top)
    finally:
        net.close()


def find_pictures(names: Sequence[str]) -> list[str]:
    """Return the picture files: those that are named, and those in folders that are named, sorted."""
    files = []
    for name in names:
        if not os.path.isdir(name):
            files.append(name)
            continue
        found = sorted(file for file in os.listdir(name) if file.lower().endswith(EXTENSIONS))
        if not found:
            fatal(f"There are no pictures in the folder {name} (files that end in {', '.join(EXTENSIONS)})")
        files += [os.path.join(name, file) for file in found]
    return files


def _preprocessor(net: Net, model: str, mean: str) -> Preprocessor:
    check_eq(
        len(net.inputs), 1, "net_->num_inputs() == 1", f"Network should have exactly one input. ({model})"
    )
    check_eq(
        len(net.outputs), 1, "net_->num_outputs() == 1", f"Network should have exactly one output. ({model})"
    )
    blob = net.blobs[net.inputs[0]]
    channels = blob.legacy(1)
    check(
        channels in (1, 3),
        "num_channels_ == 3 || num_channels_ == 1",
        f"Input layer should have 1 or 3 channels. (It has {channels}.)",
    )
    return preprocessing.load(model, (channels, blob.legacy(2), blob.legacy(3)), mean)


def _read_labels(path: str, net: Net) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            names = [line.rstrip("\r\n") for line in file]
    except OSError as err:
        check(False, "labels", f"Unable to open labels file {path} ({reason(err)})")
    blob = net.blobs[net.outputs[0]]
    check_eq(
        len(names),
        blob.count // blob.legacy(0),
        "labels_.size() == output_layer->channels()",
        f"Number of labels is different from the output layer dimension. ({path})",
    )
    return names


def _prepare(file: str, preprocessor: Preprocessor) -> tuple[str, np.ndarray | str]:
    """The net's input for a picture, or why there is none."""
    try:
        with open(file, "rb") as stream:
            return file, preprocessor(stream.read())
    except FatalError as err:
        return file, str(err)
    except OSError as err:
        return file, reason(err)


def _classify(
    net: Net, chunk: list[tuple[str, np.ndarray | str]], names: list[str], top: int
) -> Iterator[Result]:
    inputs = [values for _, values in chunk if not isinstance(values, str)]
    if inputs:
        blob = net.blobs[net.inputs[0]]
        blob.reshape((len(inputs), *inputs[0].shape))
        net.reshape()
        blob.data[...] = inputs
        net.forward()
        rows = iter(net.blobs[net.outputs[0]].data.reshape(len(inputs), -1).tolist())
    for file, values in chunk:
        if isinstance(values, str):
            yield Result(file, [], f"Unable to decode image {file} ({values})")
        else:
            row = next(rows)
            yield Result(file, [Score(names[i], row[i]) for i in partial_sort.best(row, top)])
