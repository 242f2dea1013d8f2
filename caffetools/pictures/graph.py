"""A net's graph as it is drawn: boxes of text, wires between them, and how much room text takes."""

from __future__ import annotations

from dataclasses import dataclass, field

#: Fills by what a layer does; dark text is readable on all of them, and boxes are told apart by text, too.
FILLS = {
    "data": "#e2e8ee",
    "learnt": "#cfe5f7",
    "pooling": "#fde2c4",
    "activation": "#dff0da",
    "normalization": "#ecdff2",
    "join": "#f6efc9",
    "loss": "#f8d5d1",
    "other": "#eceff1",
    "blob": "#ffffff",
}
FONTS = "DejaVu Sans, Verdana, Helvetica, Arial, sans-serif"
NAME_SIZE, TEXT_SIZE = 12, 11
#: Advances of DejaVu Sans in hundredths of an em; the fonts that may stand in for it are no wider.
_WIDTHS = {
    34: " ,.:;'|/\\ijlI",
    41: "()[]!-ftr",
    53: 'sz?_*"',
    60: "ckvxyFLPTY",
    79: "&COQGDHNUw",
    86: "M+<=>×#~",
    100: "mW%@",
}
_WIDTH = {char: width / 100 for width, chars in _WIDTHS.items() for char in chars}
_USUAL, _BOLD = 0.66, 1.12


def text_width(text: str, size: float, bold: bool = False) -> float:
    """Return about how wide a line of text is, rather too wide than too narrow."""
    return sum(_WIDTH.get(char, _USUAL) for char in text) * size * (_BOLD if bold else 1)


@dataclass
class Box:
    """A layer, or a blob that leaves the net (kind "blob").

    lines: what stands below the name. stacked: the same for layers that work in place on its output.
    """

    name: str
    kind: str
    lines: list[str] = field(default_factory=list)
    stacked: list[tuple[str, list[str]]] = field(default_factory=list)

    def parts(self) -> list[tuple[str, list[str]]]:
        """Return name and lines of the layer, then those of each that works in place."""
        return [(self.name, self.lines), *self.stacked]


@dataclass
class Wire:
    """A blob on its way from the box that makes it to those that read it. shape: as text, "" if unknown."""

    source: int
    blob: str
    shape: str = ""
    targets: list[int] = field(default_factory=list)
    labelled: bool = True

    @property
    def label(self) -> str:
        """What is written on it."""
        return f"{self.blob} {self.shape}".rstrip() if self.labelled else ""


@dataclass
class Graph:
    """Boxes in the order of the net, and wires in the order of their sources."""

    name: str
    boxes: list[Box] = field(default_factory=list)
    wires: list[Wire] = field(default_factory=list)
