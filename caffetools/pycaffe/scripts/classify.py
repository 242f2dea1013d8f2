"""classify: the probabilities of classes for pictures."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from time import perf_counter

import numpy as np

from caffetools.formats.files import atomic_path
from caffetools.glog import fatal
from caffetools.pycaffe import io
from caffetools.pycaffe.classifier import Classifier
from caffetools.pycaffe.scripts.common import (
    PictureSettings,
    best,
    choose_mode,
    integers,
    load_labels,
    one_line_failures,
)

_AT_ONCE = 32  # pictures, so that a folder need not fit into memory


def classify(
    input_file: str,
    output_file: str,
    model_def: str,
    pretrained_model: str,
    settings: PictureSettings | None = None,
    gpu: bool = False,
    center_only: bool = False,
    images_dim: str = "256,256",
    ext: str = "jpg",
    labels_file: str = "",
    top_k: int = 5,
) -> np.ndarray:
    """Classify pictures, print the best classes of each, and return all probabilities, (n, classes).

    input_file: a picture, a folder (its files *.ext, by name), or a .npy file of pictures (n, H, W, channels).
    output_file: a .npy file to write, or "". images_dim: height and width to which pictures are resized; "" for the
    net's own. center_only: take the centre, not the mean of ten crops. labels_file: names of the classes. top_k: how
    many to print.
    """
    choose_mode(gpu)
    dims = integers(images_dim, "images_dim") or None
    classifier = (settings or PictureSettings()).build(
        Classifier, model_def, pretrained_model, image_dims=dims
    )
    names, pictures = _inputs(os.path.expanduser(input_file), ext)
    print(f"Classifying {len(names)} inputs.")
    start = perf_counter()
    parts = []
    with one_line_failures():
        for first in range(0, len(names), _AT_ONCE):
            group = pictures[first : first + _AT_ONCE]
            if pictures is names:
                group = [io.load_image(name, classifier.takes_color) for name in group]
            parts.append(classifier.predict(group, not center_only))
    predictions = np.concatenate(parts)
    print(f"Done in {perf_counter() - start:.2f} s.")
    _show(names, predictions, load_labels(labels_file, predictions.shape[1]), top_k)
    if output_file:
        print(f"Saving results into {output_file}")
        with atomic_path(output_file) as temporary, open(temporary, "wb") as file:
            np.save(file, predictions)
    return predictions


def _inputs(path: str, ext: str) -> tuple[list[str], Sequence]:
    """Return the inputs' names, and the pictures: the names again where these are files."""
    if path.endswith(".npy"):
        print(f"Loading file: {path}")
        with one_line_failures():
            pictures = np.load(path)
        if pictures.ndim != 4:
            fatal(
                f"{path} has the shape {pictures.shape}: pictures (n, height, width, channels) are expected"
            )
        return [f"{path}[{i}]" for i in range(len(pictures))], pictures
    if os.path.isdir(path):
        print(f"Loading folder: {path}")
        names = sorted(glob.glob(os.path.join(glob.escape(path), f"*.{ext}")))
        if not names:
            fatal(f"The folder {path} has no file *.{ext} (--ext says which files are pictures)")
        return names, names
    print(f"Loading file: {path}")
    names = [path]
    return names, names


def _show(names, predictions, labels, top_k):
    if top_k > 0:
        for name, scores in zip(names, predictions, strict=True):
            print(f"---------- Prediction for {name} ----------")
            for index in best(scores, top_k):
                print(f'{scores[index]:.4f} - "{labels[index]}"')
