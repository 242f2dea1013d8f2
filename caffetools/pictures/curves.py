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
#: Where all points but the first lie within this share of the range, the axis shows these alone.
FAR = 0.25
#: Curves of so few points are always shown whole.
FEW = 4
#: So many characters fit above a panel, and so many of a legend beside a short title.
TITLE_WIDTH, LEGEND_WIDTH = 95, 70


@dataclass
class Curve:
    """Values of one quantity over iterations or seconds.

    x, y: of one length; NaN is a gap. run: which run it belongs to, counted from 0. measured: whether each point
    is a measurement of its own, as tests are, and not one of many along a line. missing: how many values there
    would be that are not finite, which is told.
    """

    label: str
    x: np.ndarray
    y: np.ndarray
    run: int = 0
    measured: bool = False
    missing: int = 0


@dataclass
class Panel:
    """The curves that share an axis of values.

    focused: whether a first point that lies far from all others may stay outside, which the title tells then.
    """

    title: str
    curves: list[Curve]
    logarithmic: bool = False
    focused: bool = False


def draw(panels: Sequence[Panel], x_label: str, runs: Sequence[str] = (), title: str = "") -> Figure:
    """Draw panels one above the other, the first of several the highest. Call inside `style.look`.

    runs: their names, where there are several.
    """
    several = len(runs) > 1
    heights = [1.5 if i == 0 and len(panels) > 1 else 1 for i in range(len(panels))]
    height = 0.8 + 2.0 * sum(heights) + (1 if len(panels) == 1 else 0) + 0.2 * len(runs)
    figure = style.figure(8, height)
    rows = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for axes, panel in zip(rows, panels, strict=True):
        _draw_panel(axes, panel, several)
    rows[-1].set_xlabel(x_label)
    rows[-1].xaxis.set_major_formatter(style.thousands)
    rows[-1].margins(x=0.02)
    if title:
        rows[0].set_title(f"{title}\n", loc="center", fontsize=12, fontweight="bold")
    if several:
        from matplotlib.lines import Line2D

        lines = []
        for run, name in enumerate(runs):
            mine = [curve for panel in panels for curve in panel.curves if curve.run == run]
            lines.append(Line2D([], [], color=_color(run), linewidth=2.5, label=_tell_missing(name, mine)))
        figure.legend(handles=lines, loc="outside lower left")
    return figure


def is_wide(curves: Sequence[Curve]) -> bool:
    """Say whether all finite values are positive and so far apart that a logarithmic axis shows more."""
    values = np.concatenate([curve.y[np.isfinite(curve.y)] for curve in curves]) if curves else np.empty(0)
    return values.size > 0 and values.min() > 0 and values.max() > WIDE * values.min()


def _color(index: int) -> str:
    return style.SERIES[index % len(style.SERIES)]


def _tell_missing(name: str, curves: Sequence[Curve]) -> str:
    missing = sum(curve.missing for curve in curves)
    return f"{name} ({missing} not finite)".lstrip() if missing else name


def _draw_panel(axes: Axes, panel: Panel, several: bool) -> None:
    for index, curve in enumerate(panel.curves):
        color = _color(curve.run if several else index)
        look = {"marker": "o", "zorder": 3} if curve.measured else {"linewidth": 1.1, "alpha": 0.8}
        label = curve.label if several else _tell_missing(curve.label, [curve])
        axes.plot(curve.x, curve.y, color=color, label=label, **look)
        if curve.measured and not several:
            _tell_last(axes, curve, color)
    if panel.logarithmic:
        axes.set_yscale("log")
    title = panel.title
    if panel.focused:
        title += _focus(axes, panel.curves)
    axes.set_title(textwrap.fill(title, TITLE_WIDTH))
    _draw_legend(axes, several)


def _tell_last(axes: Axes, curve: Curve, color: str) -> None:
    """Write the last value of a curve beside it."""
    finite = np.flatnonzero(np.isfinite(curve.y))
    if finite.size:
        x, y = curve.x[finite[-1]], curve.y[finite[-1]]
        place = {"xytext": (5, 0), "textcoords": "offset points", "va": "center", "fontsize": 9}
        axes.annotate(f"{y:.4g}", (x, y), color=color, annotation_clip=False, **place)


def _focus(axes: Axes, curves: Sequence[Curve]) -> str:
    """Limit the axis to all but the first points where these lie far below; return what the title has to tell."""
    values = [curve.y[np.isfinite(curve.y)] for curve in curves]
    values = [its for its in values if its.size > FEW]
    if not values:
        return ""
    rest = np.concatenate([its[1:] for its in values])
    low, high, first = float(rest.min()), float(rest.max()), min(its[0] for its in values)
    if high - low >= FAR * (high - first):
        return ""
    margin = 0.08 * (high - low) or 0.01
    axes.set_ylim(low - margin, high + margin)
    return f" (from {first:.4g}, below)"


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
