"""The curves of training logs: which outputs belong together, and where each curve goes."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from caffetools.glog import fatal
from caffetools.pictures.curves import Curve, Panel, is_wide
from caffetools.tools.parse_log import Report, TrainingLog, net_name

#: What the axis of time shows, and its label.
AXES: dict[str, tuple[Callable[[Report], float], str]] = {
    "iterations": (lambda report: report.iteration, "iteration"),
    "seconds": (lambda report: report.seconds, "seconds of training"),
}
_ACCURACY = re.compile(r"acc|top[-_ ]?\d|prec|recall", re.IGNORECASE)
_LOSS = re.compile(r"loss|error|cost|entropy", re.IGNORECASE)
LOSS, ACCURACY, OTHER, RATE = "Loss", "Accuracy", "Other outputs", "Learning rate"


def kind(output: str) -> str:
    """Return the panel that an output belongs to by its name: the last part of it decides first.

    GoogLeNet's `loss1/top-1` is an accuracy and its `loss1/loss` a loss.
    """
    for name in (output.rpartition("/")[2], output):
        if _ACCURACY.search(name):
            return ACCURACY
        if _LOSS.search(name):
            return LOSS
    return OTHER


def panels(logs: Sequence[TrainingLog], x: str) -> list[Panel]:
    """Return what to draw of runs over `x`, a key of AXES: losses, accuracies, other outputs, learning rates."""
    curves: dict[str, list[Curve]] = {LOSS: [], ACCURACY: [], OTHER: [], RATE: []}
    for run, log in enumerate(logs):
        for title, more in _of_run(log, run, AXES[x][0]).items():
            curves[title] += more
    return [
        Panel(title, its, logarithmic=title in (LOSS, RATE) and is_wide(its), focused=title == ACCURACY)
        for title, its in curves.items()
        if its
    ]


def run_names(files: Sequence[str]) -> list[str]:
    """Return the names of log files, with their folders where the names alone are not enough."""
    names = [Path(file).name for file in files]
    return names if len(set(names)) == len(names) else [os.fspath(file) for file in files]


def check_times(log: TrainingLog, file: str) -> None:
    """Refuse to draw over seconds what has no times."""
    reports = [*log.displays, *log.tests]
    if reports and all(np.isnan(report.seconds) for report in reports):
        fatal(f"--x=seconds: the lines of {file} do not begin with a time; use --x=iterations")


def _of_run(log: TrainingLog, run: int, x: Callable[[Report], float]) -> dict[str, list[Curve]]:
    result: dict[str, list[Curve]] = {LOSS: [], ACCURACY: [], OTHER: [], RATE: []}
    smoothed = [(x(report), report.loss) for report in log.displays if report.loss is not None]
    if smoothed:
        result[LOSS].append(_curve("training", smoothed, run))
    rates = [(x(report), report.rate) for report in log.displays if report.rate is not None]
    if rates:
        result[RATE].append(_curve("", rates, run))
    train, test = _by_output(log.displays, x), _by_output(log.tests, x)
    for outputs, phase in ((train, "training"), (test, "test")):
        for title in (LOSS, ACCURACY, OTHER):
            mine = {name: points for name, points in outputs.items() if kind(name) == title}
            if phase == "training" and title == LOSS and len(mine) < 2:
                continue  # the loss of the one output is the training loss, less smooth
            for name, points in mine.items():
                label = phase if len(mine) == 1 and title != OTHER else f"{phase} {name}"
                result[title].append(_curve(label, points, run, measured=phase == "test"))
    return result


def _by_output(
    reports: Sequence[Report], x: Callable[[Report], float]
) -> dict[str, list[tuple[float, float]]]:
    points: dict[str, list[tuple[float, float]]] = {}
    for report in reports:
        for name, value in report.outputs.items():
            points.setdefault(net_name(name, report.net), []).append((x(report), value))
    return points


def _curve(label: str, points: Sequence[tuple[float, float]], run: int, measured: bool = False) -> Curve:
    """Return a curve with gaps where values are not finite, and where a log begins again at an earlier iteration."""
    x, y = (np.array(values, np.float64) for values in zip(*points, strict=True))
    finite = np.isfinite(y)
    back = np.flatnonzero(np.diff(x) < 0) + 1
    x, y = np.insert(x, back, x[back]), np.insert(np.where(finite, y, np.nan), back, np.nan)
    return Curve(label, x, y, run, measured, missing=int(np.count_nonzero(~finite)))
