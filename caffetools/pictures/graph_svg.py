"""A placed graph as an SVG file, with nothing but the standard library."""

from __future__ import annotations

from collections.abc import Iterator
from xml.sax.saxutils import escape, quoteattr

from caffetools.pictures.graph import FILLS, FONTS, NAME_SIZE, TEXT_SIZE, text_width
from caffetools.pictures.graph_layout import LINE, PADDING, Layout, Placed, Point
from caffetools.pictures.style import MUTED, PAGE, TEXT

_STYLE = f"""\
text {{ font-family: {FONTS}; font-size: {TEXT_SIZE}px; fill: {TEXT}; text-anchor: middle }}
.name {{ font-size: {NAME_SIZE}px; font-weight: bold }}
.blob {{ font-size: {NAME_SIZE}px }}
.label {{ fill: {MUTED} }}
.box {{ stroke: {MUTED}; stroke-width: 1px }}
.wire {{ fill: none; stroke: {MUTED}; stroke-width: 1.2px }}"""


def text(layout: Layout, name: str) -> str:
    """Return the SVG file's text. name: the net's, for readers that show titles."""
    return "\n".join([*_lines(layout, name), ""])


def curves(points: list[Point], vertical: bool) -> Iterator[tuple[Point, Point, Point]]:
    """Yield the cubic curves of a route: two control points and the end. They start at its first point."""
    for i, (before, after) in enumerate(zip(points, points[1:], strict=False)):
        (x0, y0), (x1, y1) = before, after
        middle_x, middle_y = (x0 + x1) / 2, (y0 + y1) / 2
        if i % 2 == 0:  # within a pair, straight on
            yield before, after, after
        elif vertical:
            yield (x0, middle_y), (x1, middle_y), after
        else:
            yield (middle_x, y0), (middle_x, y1), after


def _lines(layout: Layout, name: str) -> Iterator[str]:
    size = f"{layout.width:.0f}", f"{layout.height:.0f}"
    yield '<?xml version="1.0" encoding="UTF-8"?>'
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{size[0]}" height="{size[1]}" '
        f'viewBox="0 0 {size[0]} {size[1]}" role="img">'
    )
    yield f"<title>{escape(name)}</title>"
    yield f"<style>{_STYLE}</style>"
    yield (
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        f'orient="auto"><path d="M0,0.5 L8,4 L0,7.5 z" fill="{MUTED}"/></marker></defs>'
    )
    yield f'<rect width="100%" height="100%" fill="{PAGE}"/>'
    for points in layout.routes:
        way = " ".join(_curve(*curve) for curve in curves(points, layout.vertical))
        yield f'<path class="wire" marker-end="url(#arrow)" d="M{_point(points[0])} {way}"/>'
    for label, (x, y) in layout.labels:
        # The wire stops at its label: between words it would look like a minus.
        width = text_width(label, TEXT_SIZE)
        yield f'<rect x="{x - width / 2:.1f}" y="{y - 6:.1f}" width="{width:.1f}" height="13" fill="{PAGE}"/>'
        yield f'<text class="label" x="{x:.1f}" y="{y + TEXT_SIZE * 0.36:.1f}">{escape(label)}</text>'
    for placed in layout.boxes:
        yield from _box(placed)
    yield "</svg>"


def _box(placed: Placed) -> Iterator[str]:
    box, middle = placed.box, placed.x + placed.width / 2
    yield f"<g><title>{escape(box.name)}</title>"
    radius = 14 if box.kind == "blob" else 5
    yield (
        f'<rect class="box" x="{placed.x:.1f}" y="{placed.y:.1f}" width="{placed.width:.1f}" '
        f'height="{placed.height:.1f}" rx="{radius}" fill={quoteattr(FILLS[box.kind])}/>'
    )
    style = "blob" if box.kind == "blob" else "name"
    for index, (y, content, is_name) in enumerate(box_text(placed)):
        if is_name and index:
            top = y - LINE
            ends = f"M{placed.x:.1f},{top:.1f} H{placed.x + placed.width:.1f}"
            yield f'<path d="{ends}" stroke="{MUTED}" stroke-width="0.6" stroke-dasharray="3 2"/>'
        attribute = f' class="{style}"' if is_name else ""
        yield f'<text{attribute} x="{middle:.1f}" y="{y:.1f}">{escape(content)}</text>'
    yield "</g>"


def box_text(placed: Placed) -> Iterator[tuple[float, str, bool]]:
    """Yield the base line of each line of a box's text, the line, and whether it is a layer's name."""
    parts = placed.box.parts()
    needed = sum(PADDING + LINE * (1 + len(lines)) for _, lines in parts) + 2
    y = placed.y + (placed.height - needed) / 2 + PADDING / 2 - 3
    for name, lines in parts:
        for number, line in enumerate([name, *lines]):
            y += LINE
            yield y, line, number == 0
        y += PADDING


def _curve(first: Point, second: Point, end: Point) -> str:
    return f"C{_point(first)} {_point(second)} {_point(end)}"


def _point(point: Point) -> str:
    return f"{point[0]:.1f},{point[1]:.1f}"
