"""detect: the probabilities of classes for windows of pictures."""

from __future__ import annotations

import csv
import os
from time import perf_counter
from typing import Any

import h5py
import numpy as np

from caffetools.formats.files import atomic_path
from caffetools.glog import fatal
from caffetools.pycaffe.detector import Detector
from caffetools.pycaffe.scripts.common import (
    PictureSettings,
    best,
    choose_mode,
    load_labels,
    one_line_failures,
)

COORDINATES = ("ymin", "xmin", "ymax", "xmax")
CROP_MODES = ("list", "selective_search")


def detect(
    input_file: str,
    output_file: str,
    model_def: str,
    pretrained_model: str,
    settings: PictureSettings | None = None,
    gpu: bool = False,
    crop_mode: str = "",
    context_pad: int = 16,
    labels_file: str = "",
    top_k: int = 5,
) -> list[dict[str, Any]]:
    """Classify windows, write the results, print the surest of them, and return what `Detector` gives.

    input_file: a .csv file with the columns filename, ymin, xmin, ymax, xmax, or a .txt file with a picture a line.
    output_file: a .csv file with these columns and one for each class, or a .h5 file with the data sets filename (n),
    window (n, 4) and prediction (n, classes). crop_mode: where the windows come from: `list` (a .csv file has them) or
    selective_search; by the kind of file by default. context_pad: pixels of context around a window. labels_file:
    names of the classes, which become those of the columns. top_k: how many windows to print.
    """
    write = _WRITERS.get(os.path.splitext(output_file)[1].lower())
    if write is None:
        fatal(f"{output_file}: the results are written to a file that ends in .csv or .h5")
    choose_mode(gpu)
    detector = (settings or PictureSettings()).build(Detector, model_def, pretrained_model)
    print("Loading input...")
    start = perf_counter()
    with one_line_failures():
        detector.configure_crop(context_pad)
        detections = _detect(detector, input_file, crop_mode)
    print(f"Processed {len(detections)} windows in {perf_counter() - start:.3f} s.")
    if not detections:
        fatal(f"{input_file} has no windows")
    scores = np.stack([detection["prediction"] for detection in detections]).reshape(len(detections), -1)
    labels = load_labels(labels_file, scores.shape[1])
    _show(detections, scores, labels, top_k)
    start = perf_counter()
    with atomic_path(output_file) as temporary:
        write(temporary, detections, scores, labels)
    print(f"Saved to {output_file} in {perf_counter() - start:.3f} s.")
    return detections


def _detect(detector, input_file, crop_mode):
    is_csv = input_file.lower().endswith(".csv")
    if crop_mode and crop_mode not in CROP_MODES:
        fatal(f"--crop_mode={crop_mode}: it is list or selective_search")
    if (crop_mode or ("list" if is_csv else "selective_search")) == "list":
        if not is_csv:
            fatal(f"{input_file} has no windows: --crop_mode=list takes a .csv file")
        return detector.detect_windows(read_windows(input_file).items())
    names = list(read_windows(input_file)) if is_csv else _lines(input_file)
    return detector.detect_selective_search(names)


def read_windows(path: str) -> dict[str, list[np.ndarray]]:
    """Return the windows in a .csv file by picture, in the order of the file; other columns do not count."""
    windows: dict[str, list[np.ndarray]] = {}
    with open(path, newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        missing = [name for name in ("filename", *COORDINATES) if name not in (rows.fieldnames or ())]
        if missing:
            fatal(f"{path} has no column {', '.join(missing)} (the first line names the columns)")
        for row in rows:
            try:
                window = np.array([float(row[name]) for name in COORDINATES])
            except (TypeError, ValueError):
                fatal(f"{path}, line {rows.line_num}: numbers are expected in {', '.join(COORDINATES)}")
            windows.setdefault(row["filename"], []).append(window)
    return windows


def _lines(path):
    with open(path, encoding="utf-8") as file:
        return [line.strip() for line in file if line.strip()]


def _show(detections, scores, labels, top_k):
    for index in best(scores.ravel(), max(top_k, 0)):
        row, column = divmod(index, scores.shape[1])
        window = " ".join(f"{value:g}" for value in detections[row]["window"])
        print(f'{scores[row, column]:.4f} - "{labels[column]}" {detections[row]["filename"]} {window}')


def _write_csv(path, detections, scores, labels):
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["filename", *COORDINATES, *labels])
        for detection, row in zip(detections, scores, strict=True):
            window = [f"{value:g}" for value in detection["window"]]
            writer.writerow([detection["filename"], *window, *(f"{value:.9g}" for value in row)])


def _write_hdf5(path, detections, scores, labels):
    with h5py.File(path, "w") as file:
        file["filename"] = [str(detection["filename"]) for detection in detections]
        file["window"] = np.stack([detection["window"] for detection in detections])
        file["prediction"] = scores
        file["prediction"].attrs["labels"] = labels


_WRITERS = {".csv": _write_csv, ".h5": _write_hdf5}
