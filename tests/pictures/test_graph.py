"""Placing a graph: nothing overlaps, wires end at their boxes and pass between the others."""

from __future__ import annotations

import random

import pytest

from caffetools.pictures.graph import Box, Graph, Wire, text_width
from caffetools.pictures.graph_layout import DIRECTIONS, layout
from caffetools.pictures.graph_ranks import rank_boxes


def random_graph(seed, count=40):
    """A net-like graph: each box reads one or two of the last few, and the first blob goes far."""
    rng = random.Random(seed)
    graph = Graph("random", [Box(f"layer{i}", "other", ["Type"] * rng.randint(1, 3)) for i in range(count)])
    graph.wires = [Wire(i, f"blob{i}", "×".join("12345"[: rng.randint(1, 5)])) for i in range(count - 1)]
    graph.wires.append(Wire(0, "label"))
    for target in range(1, count):
        for source in {rng.randrange(max(0, target - 5), target), rng.randrange(max(0, target - 9), target)}:
            graph.wires[source].targets.append(target)
    graph.wires[-1].targets = [count // 2, count - 1]
    graph.wires = [wire for wire in graph.wires if wire.targets]
    return graph


def overlap(a, b):
    return a.x < b.x + b.width and b.x < a.x + a.width and a.y < b.y + b.height and b.y < a.y + a.height


def on_border(box, point, slack=0.01):
    x, y = point
    inside_x = box.x - slack <= x <= box.x + box.width + slack
    inside_y = box.y - slack <= y <= box.y + box.height + slack
    edge_x = min(abs(x - box.x), abs(x - box.x - box.width)) <= slack
    edge_y = min(abs(y - box.y), abs(y - box.y - box.height)) <= slack
    return inside_x and inside_y and (edge_x or edge_y)


CASES = [(seed, direction) for seed in range(4) for direction in DIRECTIONS]


@pytest.mark.parametrize(("seed", "direction"), CASES)
def test_boxes_lie_apart_and_inside(seed, direction):
    placed = layout(random_graph(seed), direction)
    for i, box in enumerate(placed.boxes):
        assert box.x >= 0 and box.x + box.width <= placed.width
        assert box.y >= 0 and box.y + box.height <= placed.height
        assert not any(overlap(box, other) for other in placed.boxes[:i])


@pytest.mark.parametrize(("seed", "direction"), CASES)
def test_wires_join_their_boxes_and_pass_the_others(seed, direction):
    graph = random_graph(seed)
    placed = layout(graph, direction)
    ends = [(wire.source, target) for wire in graph.wires for target in wire.targets]
    assert len(placed.routes) == len(ends)
    for (source, target), points in zip(ends, placed.routes, strict=True):
        assert on_border(placed.boxes[source], points[0])
        assert on_border(placed.boxes[target], points[-1])
        for (x0, y0), (x1, y1) in zip(points[2:-2:2], points[3:-2:2], strict=True):
            for box in placed.boxes:
                in_x = box.x < max(x0, x1) and min(x0, x1) < box.x + box.width
                in_y = box.y < max(y0, y1) and min(y0, y1) < box.y + box.height
                assert not (in_x and in_y)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_flow_has_its_direction(direction):
    graph = Graph(
        "chain", [Box(name, "other") for name in "abc"], [Wire(0, "a", "", [1]), Wire(1, "b", "", [2])]
    )
    boxes = layout(graph, direction).boxes
    along = [box.y if direction in ("TB", "BT") else box.x for box in boxes]
    assert along == sorted(along, reverse=direction in ("BT", "RL"))


@pytest.mark.parametrize("seed", range(4))
def test_ranks_rise_along_every_wire(seed):
    graph = random_graph(seed)
    ranks = rank_boxes(len(graph.boxes), graph.wires)
    assert all(ranks[target] > ranks[wire.source] for wire in graph.wires for target in wire.targets)
    assert set(ranks) == set(range(max(ranks) + 1))


def test_sources_stand_before_their_first_reader():
    wires = [Wire(0, "a", "", [1]), Wire(1, "b", "", [2]), Wire(2, "c", "", [3]), Wire(4, "label", "", [3])]
    assert rank_boxes(5, wires) == [0, 1, 2, 3, 2]


def test_two_branches_do_not_cross():
    """Boxes 1 and 2 read 0's second and first blob and feed 4 and 3: any order but one has crossings."""
    graph = Graph("two", [Box(str(i), "other") for i in range(5)])
    graph.wires = [Wire(0, "a", "", [2]), Wire(0, "b", "", [1]), Wire(1, "c", "", [4]), Wire(2, "d", "", [3])]
    boxes = layout(graph).boxes
    assert (boxes[1].x < boxes[2].x) == (boxes[4].x < boxes[3].x)


def test_a_graph_without_boxes():
    assert layout(Graph("empty")).boxes == []


@pytest.mark.parametrize("bold", [False, True])
def test_text_has_room(bold):
    """The estimate is that of the real font, or more."""
    pytest.importorskip("matplotlib")
    from matplotlib import font_manager
    from matplotlib.ft2font import FT2Font

    font = FT2Font(font_manager.findfont(f"DejaVu Sans{':bold' if bold else ''}"))
    font.set_size(100, 72)
    for text in (
        "inception_4a/3x3_reduce",
        "MAX, kernel 3, stride 2, pad 0",
        "data 64×3×227×227",
        "WMmw%@#&",
    ):
        real = sum(font.load_char(ord(char)).linearHoriAdvance / 65536 for char in text)
        assert real * 0.98 <= text_width(text, 100, bold) <= real * 1.3
