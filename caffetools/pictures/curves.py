"""Lines over the iterations or seconds of training runs, and over those to come.

Panels stand one above the other on one axis of time. Where there is one run, colours tell its curves apart; where there
are several, a colour is a run, named below the panels. A training curve is thin, a test curve has marks.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from caffetools.pictures import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Positive values of a wider range than this get a logarithmic axis.
WIDE = 30
#: So many characters fit above a panel, and so many of a legend beside a short title.
TITLE_WIDTH, LEGEND_WIDTH = 95, 70


@dataclass
class Curve:
    """Values of one quantity over iterations or seconds. x, y: of one length; not all of y need be finite.

    run: which run it belongs to, counted from 0. measured: whether each point is a measurement of its own, as
    tests are, and not one of many along a line.
    """

    label: str
    x: np.ndarray
    y: np.ndarray
    run: int = 0
    measured: bool = False


@dataclass
class Panel:
    """The curves that share an axis of values."""

    title: str
    curves: list[Curve]
    logarithmic: bool = False


def draw(panels: Sequence[Panel], x_label: str, runs: Sequence[str] = ()) -> Figure:
    """Draw panels one above the other, the first of several the highest. Call inside `style.look`.

    runs: their names, where there are several.
    """
    heights = [1.5 if i == 0 and len(panels) > 1 else 1 for i in range(len(panels))]
    height = 0.8 + 2.2 * sum(heights) + (0.8 if len(panels) == 1 else 0) + 0.2 * len(runs)
    figure = style.figure(8, height)
    rows = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for axes, panel in zip(rows, panels, strict=True):
        _draw_panel(axes, panel, several=len(runs) > 1)
    rows[-1].set_xlabel(x_label)
    rows[-1].xaxis.set_major_formatter(style.thousands)
    rows[-1].margins(x=0.02)
    if len(runs) > 1:
        from matplotlib.lines import Line2D

        lines = [
            Line2D([], [], color=_color(run), linewidth=2.5, label=name) for run, name in enumerate(runs)
        ]
        figure.legend(handles=lines, loc="outside lower left")
    return figure


def is_wide(curves: Sequence[Curve]) -> bool:
    """Say whether all finite values are positive and so far apart that a logarithmic axis shows more."""
    values = np.concatenate([curve.y[np.isfinite(curve.y)] for curve in curves]) if curves else np.empty(0)
    return values.size > 0 and values.min() > 0 and values.max() > WIDE * values.min()


def _color(index: int) -> str:
    return style.SERIES[index % len(style.SERIES)]


def _draw_panel(axes: Axes, panel: Panel, several: bool) -> None:
    for index, curve in enumerate(panel.curves):
        look = {"marker": "o", "zorder": 3} if curve.measured else {"linewidth": 1.1, "alpha": 0.8}
        axes.plot(curve.x, curve.y, color=_color(curve.run if several else index), label=curve.label, **look)
    axes.set_title(textwrap.fill(panel.title, TITLE_WIDTH))
    if panel.logarithmic:
        axes.set_yscale("log")
    _draw_legend(axes, several)


def _draw_legend(axes: Axes, several: bool) -> None:
    """Name the curves above the panel, or beside it where there are many: no curve can pass under the names."""
    from matplotlib.lines import Line2D

    entries = {line.get_label(): line for line in axes.get_lines() if not line.get_label().startswith("_")}
    if several:  # the names tell kinds of curves apart, not runs
        entries = {
            label: Line2D([], [], color=style.MUTED, marker=line.get_marker(), linewidth=line.get_linewidth())
            for label, line in entries.items()
        }
    if len(entries) < 2:
        return
    if sum(map(len, entries)) + 5 * len(entries) < LEGEND_WIDTH:
        place = {"loc": "lower right", "bbox_to_anchor": (1, 1), "ncols": len(entries), "borderaxespad": 0.2}
    else:
        place = {"loc": "upper left", "bbox_to_anchor": (1, 1), "borderaxespad": 0}
    axes.legend(entries.values(), entries.keys(), **place)
