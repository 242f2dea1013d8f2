"""Which classes a net takes for which: counts of label and prediction, and the samples that it is most wrong about."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from caffetools.formats.files import atomic_path
from caffetools.glog import fatal, info, warning
from caffetools.net import Net
from caffetools.pictures import confusion as picture
from caffetools.pictures import style
from caffetools.tools.inputs_as_pictures import InputPictures

#: So many of the most wrong samples are kept, and so many of them are logged.
KEPT, LOGGED = 36, 10
#: Layers that compare scores (bottom 0) with labels (bottom 1); the first type that the net has is used.
_JUDGES = ("Accuracy", "SoftmaxWithLoss", "MultinomialLogisticLoss", "InfogainLoss", "HingeLoss")


@dataclass
class Wrong:
    """A sample, counted from 0 in the order of the test, whose prediction is not its label.

    confidence: the probability of the prediction. pixels: uint8 (height, width, 3), red, green, blue, or (height,
    width), or None where the net's input is no picture.
    """

    index: int
    label: int
    predicted: int
    confidence: float
    pixels: np.ndarray | None = None


class Confusion:
    """Counts the outcomes of a net's batches.

    Scores and labels are those of the net's last Accuracy layer or, without any, of its last loss of classes.
    Items whose label is ignored there are left out; so are items with a score that is NaN, which are counted in
    `undecided`. matrix: int64, counts by [label, prediction]. wrong: the most wrong samples, the worst first.

    Errors: FatalError for a net that compares no scores with labels.
    """

    def __init__(self, net: Net):
        self.net = net
        index = _judge(net)
        layer = net.layers[index]
        self.scores, self.labels = net.bottoms[index][:2]
        is_accuracy = layer.type == "Accuracy"
        axis = layer.param.accuracy_param.axis if is_accuracy else layer.param.softmax_param.axis
        self.axis = self.scores.canonical_axis(axis)
        param = layer.param.accuracy_param if is_accuracy else layer.param.loss_param
        self.ignored = param.ignore_label if param.HasField("ignore_label") else None
        classes = self.scores.shape[self.axis]
        self.matrix = np.zeros((classes, classes), np.int64)
        self.wrong: list[Wrong] = []
        self.samples = self.undecided = 0
        self.pictures = InputPictures(net)

    def add(self) -> None:
        """Count the batch that the net has just seen."""
        batch = self.scores.shape[0]
        scores = np.moveaxis(self.scores.data, self.axis, -1).reshape(-1, len(self.matrix))
        labels = self.labels.flat_data.astype(np.int64)
        kept = np.ones(labels.size, bool) if self.ignored is None else labels != self.ignored
        undecided = kept & np.isnan(scores).any(axis=1)
        self.undecided += int(np.count_nonzero(undecided))
        items = np.flatnonzero(kept & ~undecided)
        scores, labels = scores[items], labels[items]
        predicted = scores.argmax(axis=1)
        np.add.at(self.matrix, (labels, predicted), 1)
        confidence = probabilities(scores)[np.arange(len(scores)), predicted]
        self._keep_worst(
            items // (self.scores.count // len(self.matrix) // batch), labels, predicted, confidence
        )
        self.samples += batch

    def _keep_worst(self, samples, labels, predicted, confidence):
        """Keep the worst items, one for each sample: of a picture with a label for each pixel, the worst pixel."""
        wrong = np.flatnonzero(predicted != labels)
        worst: dict[int, int] = {}
        for item in wrong[np.argsort(-confidence[wrong], kind="stable")]:
            worst.setdefault(int(samples[item]), int(item))
        least = self.wrong[-1].confidence if len(self.wrong) == KEPT else -1.0
        for sample, item in list(worst.items())[:KEPT]:
            if confidence[item] > least:
                outcome = int(labels[item]), int(predicted[item]), float(confidence[item])
                self.wrong.append(Wrong(self.samples + sample, *outcome, self.pictures.pixels(sample)))
        self.wrong.sort(key=lambda wrong: -wrong.confidence)
        del self.wrong[KEPT:]

    def report(self, path: Path) -> None:
        """Write the matrix as a picture and, beside it, as .csv; the most wrong samples as _wrong.csv and picture."""
        with style.look():
            style.save(picture.draw_matrix(self.matrix), path)
            info(f"Confusion matrix: {path}, {path.with_suffix('.csv')}")
            self._write_matrix(path.with_suffix(".csv"))
            sheet = path.with_name(f"{path.stem}_wrong{path.suffix}")
            self._write_wrong(sheet.with_suffix(".csv"))
            shown = [wrong for wrong in self.wrong if wrong.pixels is not None]
            if shown:
                titles = [f"{w.label} as {w.predicted}, {w.confidence:.1%}\n#{w.index}" for w in shown]
                style.save(picture.draw_sheet([wrong.pixels for wrong in shown], titles), sheet)
            info(f"Most wrong samples: {f'{sheet}, ' if shown else ''}{sheet.with_suffix('.csv')}")
        self._log()

    def _log(self):
        if self.undecided:
            warning(f"{self.undecided} items have a score that is NaN and are not counted")
        totals = self.matrix.sum(axis=1)
        for label, accuracy in enumerate(per_class_accuracy(self.matrix)):
            if totals[label]:
                info(
                    f"Class {label}: accuracy = {accuracy:g} ({self.matrix[label, label]} of {totals[label]})"
                )
        for w in self.wrong[:LOGGED]:
            info(f"Sample {w.index}: label {w.label}, predicted {w.predicted}, confidence {w.confidence:g}")

    def _write_matrix(self, path: Path) -> None:
        totals = self.matrix.sum(axis=1).tolist()
        accuracies = per_class_accuracy(self.matrix)
        rows = [["label", *range(len(self.matrix)), "total", "accuracy"]]
        for label, counts in enumerate(self.matrix.tolist()):
            accuracy = f"{accuracies[label]:.6g}" if totals[label] else ""
            rows.append([label, *counts, totals[label], accuracy])
        _write_csv(path, rows)

    def _write_wrong(self, path: Path) -> None:
        rows = [[w.index, w.label, w.predicted, f"{w.confidence:.6g}"] for w in self.wrong]
        _write_csv(path, [["index", "label", "predicted", "confidence"], *rows])


def per_class_accuracy(matrix: np.ndarray) -> np.ndarray:
    """Return the share of right predictions for each label, NaN for labels that did not occur."""
    totals = matrix.sum(axis=1)
    return np.divide(np.diag(matrix), totals, out=np.full(len(matrix), np.nan), where=totals > 0)


def probabilities(scores: np.ndarray) -> np.ndarray:
    """Return the softmax of scores (items, classes); scores that are probabilities already stay as they are."""
    scores = scores.astype(np.float64)
    if (scores >= 0).all() and np.allclose(scores.sum(axis=1), 1, atol=1e-3):
        return scores
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _judge(net: Net) -> int:
    types = [layer.type for layer in net.layers]
    for type_ in _JUDGES:
        if type_ in types:
            return len(types) - 1 - types[::-1].index(type_)
    fatal(
        f"--confusion needs a net that compares scores with labels, by a layer of type {' or '.join(_JUDGES)}"
    )


def _write_csv(path: Path, rows: Sequence[Sequence[object]]) -> None:
    with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
