"""A graph in the plane: corners of boxes, ways of wires, places of labels.

All is computed `along` the flow and `across` it; the direction is applied last.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from caffetools.pictures.graph import NAME_SIZE, TEXT_SIZE, Box, Graph, text_width
from caffetools.pictures.graph_ranks import Item, arrange, connect, rank_boxes

Point = tuple[float, float]

#: Distances in the units of font sizes: within boxes, of lines, between ranks, around everything.
PADDING, LINE, GAP, MARGIN = 8, 15, 34, 20
_TURNS: dict[str, Callable[[float, float, float], Point]] = {
    "TB": lambda across, along, length: (across, along),
    "BT": lambda across, along, length: (across, length - along),
    "LR": lambda across, along, length: (along, across),
    "RL": lambda across, along, length: (length - along, across),
}
DIRECTIONS = tuple(_TURNS)


@dataclass
class Placed:
    """A box with its upper left corner and size."""

    box: Box
    x: float
    y: float
    width: float
    height: float


@dataclass
class Layout:
    """A drawing of `width` x `height`.

    vertical: whether the flow is, so that wires leave boxes that way. routes: each wire's way to one reader; its
    points come in pairs, which straight lines join, with curves from pair to pair. labels: text and middle.
    """

    vertical: bool
    width: float = 0.0
    height: float = 0.0
    boxes: list[Placed] = field(default_factory=list)
    routes: list[list[Point]] = field(default_factory=list)
    labels: list[tuple[str, Point]] = field(default_factory=list)


def box_size(box: Box) -> tuple[float, float]:
    """Return width and height of a box with its text."""
    width = height = 0.0
    for name, lines in box.parts():
        texts = [text_width(line, TEXT_SIZE) for line in lines]
        width = max([width, text_width(name, NAME_SIZE, bold=True), *texts])
        height += PADDING + LINE * (1 + len(lines))
    return width + 2 * PADDING, height + 2


def layout(graph: Graph, direction: str = "TB") -> Layout:
    """Place a graph that flows from top to bottom ("TB"), or "BT", "LR" or "RL"."""
    return _Builder(graph, direction).build()


class _Builder:
    def __init__(self, graph: Graph, direction: str):
        self.graph = graph
        self.direction = direction
        self.vertical = direction in ("TB", "BT")
        ranks = rank_boxes(len(graph.boxes), graph.wires)
        self.items = [Item(rank, box) for box, rank in enumerate(ranks)]
        #: Each box's extent along and across the flow; an item is wider where its only wire's label is.
        self.depths = [0.0] * len(graph.boxes)
        self.extents = [0.0] * len(graph.boxes)
        self.ports = [0.0] * len(graph.wires)
        self._size_boxes()
        self.ranks: list[list[Item]] = [[] for _ in range(max(ranks, default=-1) + 1)]
        for item in self.items:
            self.ranks[item.rank].append(item)
        #: Each wire to one reader: its number and the items on its way.
        self.ways: list[tuple[int, list[Item]]] = []
        for wire in range(len(graph.wires)):
            self._add_chain(wire)
        arrange(self.ranks)
        self._sort_ports()

    def _size_boxes(self):
        for item in self.items:
            size, depth = box_size(self.graph.boxes[item.box])
            item.size, self.depths[item.box] = (size, depth) if self.vertical else (depth, size)
        for source, item in enumerate(self.items):
            wires = self._wires_of(source)
            room = self._place_ports(wires)
            self.extents[source] = max(item.size, room if len(wires) > 1 else 0)
            item.size = max(item.size, room)

    def _wires_of(self, source):
        return [i for i, wire in enumerate(self.graph.wires) if wire.source == source]

    def _place_ports(self, wires):
        """Place the ends of one box's wires on it, in this order, with room for all labels; return the room."""
        room = [self._label_room(wire)[0] + PADDING for wire in wires]
        end = -sum(room) / 2
        for wire, size in zip(wires, room, strict=True):
            self.ports[wire] = end + size / 2
            end += size
        return sum(room)

    def _sort_ports(self):
        """Let the wires of each box leave in the order of the places that they go to."""
        goals = {}
        for wire, way in self.ways:
            goals.setdefault(wire, []).append(way[1].across)
        for source in range(len(self.items)):
            self._place_ports(
                sorted(self._wires_of(source), key=lambda wire: sum(goals[wire]) / len(goals[wire]))
            )

    def _label_room(self, wire):
        """Return the room of a label across and along the flow."""
        width = text_width(self.graph.wires[wire].label, TEXT_SIZE)
        if not width:
            return (0.0, 0.0)
        return (width, LINE + 6) if self.vertical else (LINE, width + 18)

    def _add_chain(self, wire):
        source = self.items[self.graph.wires[wire].source]
        targets = [self.items[target] for target in self.graph.wires[wire].targets]
        chain = [source]
        for rank in range(source.rank + 1, max(target.rank for target in targets)):
            link = Item(rank)
            connect(chain[-1], self._offset(wire, chain), link)
            chain.append(link)
            self.ranks[rank].append(link)
        for target in targets:
            way = chain[: target.rank - source.rank]
            connect(way[-1], self._offset(wire, way), target)
            self.ways.append((wire, [*way, target]))

    def _offset(self, wire, way):
        return self.ports[wire] if len(way) == 1 else 0.0

    def build(self) -> Layout:
        result = Layout(self.vertical)
        starts, ends = self._along()
        everything = [item for rank in self.ranks for item in rank]
        first = min((item.across - item.size / 2 for item in everything), default=0) - MARGIN
        last = max((item.across + item.size / 2 for item in everything), default=0) + MARGIN
        length = (ends[-1] if ends else 0) + MARGIN
        turn = _TURNS[self.direction]
        result.width, result.height = (last - first, length) if self.vertical else (length, last - first)

        def place(across, along):
            return turn(across - first, along, length)

        for item in self.items:
            half, depth = self.extents[item.box] / 2, self.depths[item.box]
            corners = [
                place(item.across - half, starts[item.rank]),
                place(item.across + half, starts[item.rank] + depth),
            ]
            (left, right), (top, bottom) = (sorted(values) for values in zip(*corners, strict=True))
            result.boxes.append(Placed(self.graph.boxes[item.box], left, top, right - left, bottom - top))
        entries = self._entries()
        for number, (wire, way) in enumerate(self.ways):
            source, target = way[0], way[-1]
            port = source.across + self.ports[wire]
            points = [(port, starts[source.rank] + self.depths[source.box]), (port, ends[source.rank])]
            for link in way[1:-1]:
                points += [(link.across, starts[link.rank]), (link.across, ends[link.rank])]
            points += [(entries[number], starts[target.rank] - 7), (entries[number], starts[target.rank])]
            result.routes.append([place(*point) for point in points])
        for wire, content in enumerate(self.graph.wires):
            if not content.label:
                continue
            source = self.items[content.source]
            along = starts[source.rank] + self.depths[source.box] + self._label_room(wire)[1] / 2
            result.labels.append((content.label, place(source.across + self.ports[wire], along)))
        return result

    def _along(self):
        """Return where each rank starts, and where its boxes and labels end."""
        room = [0.0] * len(self.graph.boxes)
        for wire, content in enumerate(self.graph.wires):
            room[content.source] = max(room[content.source], self._label_room(wire)[1])
        starts, ends, at = [], [], float(MARGIN)
        for rank in self.ranks:
            starts.append(at)
            at += max(self.depths[item.box] + room[item.box] for item in rank if item.box >= 0)
            ends.append(at)
            at += GAP
        return starts, ends

    def _entries(self):
        """Return where each wire enters its reader: side by side, in the order in which they come."""
        entries = [0.0] * len(self.ways)
        for target, item in enumerate(self.items):
            coming = [i for i, (_, way) in enumerate(self.ways) if way[-1].box == target]
            coming.sort(
                key=lambda i: self.ways[i][1][-2].across + self._offset(self.ways[i][0], self.ways[i][1][:-1])
            )
            for number, way in enumerate(coming, start=1):
                entries[way] = item.across + self.extents[target] * (number / (len(coming) + 1) - 0.5)
        return entries
