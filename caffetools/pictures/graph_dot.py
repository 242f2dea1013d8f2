"""A graph in the language of Graphviz, and the picture that its program `dot` makes of it."""

from __future__ import annotations

import shutil
import subprocess

from caffetools.glog import fatal
from caffetools.pictures.graph import FILLS, NAME_SIZE, TEXT_SIZE, Graph
from caffetools.pictures.style import DPI, MUTED, PAGE, TEXT


def program() -> str | None:
    """Return the path of Graphviz' `dot`, if it is installed."""
    return shutil.which("dot")


def render(graph: Graph, direction: str, kind: str) -> bytes:
    """Return a picture ("png" or "svg") of a graph that Graphviz lays out. Errors: FatalError with what it said."""
    command = [program() or "dot", f"-T{kind}", *([f"-Gdpi={DPI}"] if kind == "png" else [])]
    result = subprocess.run(command, input=text(graph, direction).encode(), capture_output=True)
    if result.returncode or not result.stdout:
        fatal(f"Graphviz ({' '.join(command)}) failed: {result.stderr.decode(errors='replace').strip()}")
    return result.stdout


def text(graph: Graph, direction: str) -> str:
    """Return the graph as Graphviz reads it."""
    font = f'fontname="DejaVu Sans" fontsize={TEXT_SIZE * 0.75:g} fontcolor="{TEXT}"'
    lines = [
        "digraph net {",
        f'graph [rankdir={direction} bgcolor="{PAGE}" pad=0.2 nodesep=0.25 ranksep=0.35]',
        f'node [shape=box style=filled color="{MUTED}" penwidth=0.8 margin="0.06,0.03" {font}]',
        f'edge [color="{MUTED}" penwidth=0.9 arrowsize=0.6 {font}]',
    ]
    for number, box in enumerate(graph.boxes):
        fill = FILLS[box.kind]
        style = ' style="filled,rounded"' if box.kind == "blob" else ""
        lines.append(
            f'n{number} [label=<{_label(box)}> tooltip={_quoted(box.name)} fillcolor="{fill}"{style}]'
        )
    for wire in graph.wires:
        for target in wire.targets:
            label = f" [label={_quoted(f' {wire.label}')}]" if wire.label else ""
            lines.append(f"n{wire.source} -> n{target}{label}")
    return "\n".join([*lines, "}", ""])


def _label(box) -> str:
    """Return a box's text in Graphviz' own HTML."""
    parts = []
    for name, lines in box.parts():
        heading = _escaped(name)
        if box.kind != "blob":
            heading = f"<b>{heading}</b>"
        heading = f'<font point-size="{NAME_SIZE * 0.75:g}">{heading}</font>'
        parts.append(f"<tr><td>{'<br/>'.join([heading, *map(_escaped, lines)])}</td></tr>")
    return f'<table border="0" cellspacing="0">{"<hr/>".join(parts)}</table>'


def _escaped(value: str) -> str:
    return value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
