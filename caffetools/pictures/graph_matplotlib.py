"""A placed graph as a raster picture, where there is no Graphviz: the same drawing as the SVG file's."""

from __future__ import annotations

import os

from caffetools.pictures import style
from caffetools.pictures.graph import FILLS, NAME_SIZE, TEXT_SIZE
from caffetools.pictures.graph_layout import LINE, Layout, Placed, Point
from caffetools.pictures.graph_svg import box_text, curves

#: An SVG pixel is 1/96 inch, a point of matplotlib's fonts 1/72.
_POINTS = 72 / 96
#: Length of an arrow's head.
_HEAD = 7
#: Pixels along the longer side at most: what picture viewers still open.
LARGEST = 24_000


def save(layout: Layout, path: str | os.PathLike[str]) -> None:
    """Draw a graph and write it as the path's ending says."""
    with style.look():
        from matplotlib.patches import PathPatch
        from matplotlib.path import Path

        inches = layout.width / 96, layout.height / 96
        figure = style.figure(*inches, layout="none")
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, layout.width), ylim=(layout.height, 0))
        axes.axis("off")
        for points in layout.routes:
            corners = [points[0]]
            for curve in curves(points, layout.vertical):
                corners += curve
            way = Path(corners, [Path.MOVETO] + [Path.CURVE4] * (len(corners) - 1))
            axes.add_patch(PathPatch(way, edgecolor=style.MUTED, fill=False, linewidth=0.9))
            axes.fill(*zip(*_head(*points[-2:]), strict=True), color=style.MUTED, linewidth=0)
        for label, (x, y) in layout.labels:
            axes.text(
                x, y, label, size=TEXT_SIZE * _POINTS, color=style.MUTED, ha="center", va="center",
                bbox={"facecolor": style.PAGE, "edgecolor": "none", "pad": 1},
            )  # fmt: skip
        for placed in layout.boxes:
            _draw_box(axes, placed)
        style.save(figure, path, dpi=min(style.DPI, LARGEST / max(inches)))


def _head(before: Point, tip: Point) -> list[Point]:
    """Return the corners of an arrow's head."""
    dx, dy = tip[0] - before[0], tip[1] - before[1]
    length = (dx * dx + dy * dy) ** 0.5
    dx, dy = dx / length, dy / length
    x, y = tip[0] - _HEAD * dx, tip[1] - _HEAD * dy
    return [tip, (x - _HEAD / 2.2 * dy, y + _HEAD / 2.2 * dx), (x + _HEAD / 2.2 * dy, y - _HEAD / 2.2 * dx)]


def _draw_box(axes, placed: Placed) -> None:
    from matplotlib.patches import FancyBboxPatch

    box = placed.box
    radius = 14 if box.kind == "blob" else 5
    axes.add_patch(
        FancyBboxPatch(
            (placed.x, placed.y), placed.width, placed.height, boxstyle=f"round,pad=0,rounding_size={radius}",
            facecolor=FILLS[box.kind], edgecolor=style.MUTED, linewidth=0.8,
        )
    )  # fmt: skip
    for index, (y, content, is_name) in enumerate(box_text(placed)):
        if is_name and index:
            ends = [placed.x, placed.x + placed.width]
            axes.plot(ends, [y - LINE] * 2, color=style.MUTED, linewidth=0.5, linestyle=(0, (4, 3)))
        size = (NAME_SIZE if is_name else TEXT_SIZE) * _POINTS
        weight = "bold" if is_name and box.kind != "blob" else "normal"
        axes.text(
            placed.x + placed.width / 2, y, content, size=size, weight=weight, ha="center", va="baseline"
        )
