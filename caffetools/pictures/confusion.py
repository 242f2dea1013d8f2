"""A confusion matrix with the accuracy of each class beside it, and a sheet of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING

import numpy as np

from caffetools.pictures import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Up to so many classes have their counts written in the matrix, and their names and accuracies beside it.
WITH_COUNTS, WITH_NAMES = 20, 50
COLUMNS = 6
#: Shares are drawn to this power, so that the few mistakes of a good net are seen.
_POWER = 0.4


def draw_matrix(matrix: np.ndarray) -> Figure:
    """Draw counts (labels, predictions): the colour of a cell is its share of the label. Call inside `style.look`."""
    from matplotlib.colors import PowerNorm

    classes, totals = len(matrix), matrix.sum(axis=1, keepdims=True)
    shares = np.divide(matrix, totals, out=np.zeros(matrix.shape), where=totals > 0)
    side = min(max(3.2 + 0.42 * classes, 4.5), 9.5)
    figure = style.figure(side + 2.4, side)
    cells, bars = figure.subplots(1, 2, sharey=True, width_ratios=(side, 1.9))
    cells.grid(False)
    cells.imshow(shares, cmap=style.COUNTS, norm=PowerNorm(_POWER, 0, 1), aspect="auto")
    cells.set(xlabel="prediction", ylabel="label")
    right, total = int(np.trace(matrix)), int(matrix.sum())
    cells.set_title(f"{right:,} of {total:,} right: accuracy {right / max(total, 1):.4f}")
    if classes <= WITH_COUNTS:
        _write_counts(cells, matrix, shares)
    if classes <= WITH_NAMES:
        cells.set_xticks(range(classes), [str(i) for i in range(classes)], rotation=90 if classes > 20 else 0)
        cells.set_yticks(range(classes), [str(i) for i in range(classes)])
    _draw_accuracies(bars, np.where(totals[:, 0] > 0, np.diag(shares), np.nan))
    return figure


def draw_sheet(
    pictures: Sequence[np.ndarray],
    titles: Sequence[str],
    heading: str = "Most wrong: label as prediction, its confidence",
) -> Figure:
    """Draw pictures, gray or red, green, blue, with their titles under a heading. Call inside `style.look`."""
    rows = ceil(len(pictures) / COLUMNS)
    figure = style.figure(1.6 * COLUMNS, 2.05 * rows + 0.4)
    figure.suptitle(heading, x=0.01, ha="left")
    places = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for axes in places:
        axes.axis("off")
    for axes, picture, title in zip(places, pictures, titles, strict=False):
        axes.imshow(picture, cmap="gray", vmin=0, vmax=255)
        axes.set_title(title, fontsize=9, loc="center")
    return figure


def _write_counts(axes: Axes, matrix: np.ndarray, shares: np.ndarray) -> None:
    for label, counts in enumerate(matrix):
        for predicted, count in enumerate(counts):
            if count:
                dark = shares[label, predicted] ** _POWER > 0.6
                color = style.PAGE if dark else style.TEXT
                axes.text(predicted, label, f"{count:,}", color=color, ha="center", va="center", fontsize=9)


def _draw_accuracies(axes: Axes, accuracies: np.ndarray) -> None:
    classes = len(accuracies)
    axes.set_title("Accuracy")
    axes.grid(False)
    # From zero: bars are compared by their lengths.
    axes.barh(
        range(classes), np.nan_to_num(accuracies), color=style.SERIES[0], height=0.7 if classes < 100 else 1
    )
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.5, 1])
    axes.tick_params(axis="y", left=False, labelleft=False)
    if classes <= WITH_NAMES:
        for label, accuracy in enumerate(accuracies):
            text = f"{accuracy:.2%}" if np.isfinite(accuracy) else "none"
            inside = accuracy > 0.5
            place = {"ha": "right" if inside else "left", "color": style.PAGE if inside else style.TEXT}
            at = accuracy - 0.04 if inside else np.nan_to_num(accuracy) + 0.04
            axes.text(at, label, text, va="center", fontsize=8.5, **place)
