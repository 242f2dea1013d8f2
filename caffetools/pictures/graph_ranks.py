"""The places of a graph's boxes across the flow: in ranks, as Sugiyama, Tagawa and Toda drew graphs.

1. Ranks: each box one further than the furthest of those that it reads from.
2. Chains: a wire that passes ranks gets a place in each of them; all its readers branch off one chain.
3. Order within ranks: sweeps that sort by the mean place of neighbours; the order with the fewest crossings wins.
4. Places: sweeps that move a whole rank as near to its neighbours as order and sizes allow, which is an isotonic
   regression (pool adjacent violators). Chains pull harder than boxes, so that long wires run straight.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass, field

from caffetools.pictures.graph import Wire

#: Room beside a box and beside a wire that passes.
SPACE, WIRE_SPACE = 26, 14
SWEEPS = 12
#: How hard a wire pulls: between boxes, between a box and a chain, within a chain.
_PULLS = (1.0, 2.0, 8.0)


@dataclass(eq=False)
class Item:
    """A box, or the place of a wire that passes through a rank.

    box: its number, -1 for a wire's place. size: its extent across the flow. above, below: the neighbours in the
    ranks before and after, each with the offset of the wire there and here, and how hard it pulls. order: its
    number in its rank. across: the place of its middle.
    """

    rank: int
    box: int = -1
    size: float = 0.0
    above: list[tuple[Item, float, float]] = field(default_factory=list)
    below: list[tuple[Item, float, float]] = field(default_factory=list)
    order: int = 0
    across: float = 0.0


def rank_boxes(count: int, wires: Sequence[Wire]) -> list[int]:
    """Return each box's rank. Boxes that read nothing stand right before their first reader."""
    above: list[set[int]] = [set() for _ in range(count)]
    below: list[set[int]] = [set() for _ in range(count)]
    for wire in wires:
        for target in wire.targets:
            above[target].add(wire.source)
            below[wire.source].add(target)
    ranks = [0] * count
    left = [len(sources) for sources in above]
    ready = [box for box in range(count) if not left[box]]
    for box in ready:
        for target in below[box]:
            ranks[target] = max(ranks[target], ranks[box] + 1)
            left[target] -= 1
            if not left[target]:
                ready.append(target)
    for box in range(count):
        if not above[box] and below[box]:
            ranks[box] = min(ranks[target] for target in below[box]) - 1
    return ranks


def connect(upper: Item, offset: float, lower: Item) -> None:
    """Join two items of neighbouring ranks by a wire that leaves the upper one `offset` from its middle."""
    pull = _PULLS[(upper.box < 0) + (lower.box < 0)]
    upper.below.append((lower, offset, pull))
    lower.above.append((upper, -offset, pull))


def arrange(ranks: list[list[Item]]) -> None:
    """Order the items of each rank and set their places; `ranks` are sorted by them."""
    _order(ranks)
    _place(ranks)


def _order(ranks):
    _number(ranks)
    best, fewest = [list(rank) for rank in ranks], _crossings(ranks)
    for sweep in range(SWEEPS):
        downward = sweep % 2 == 0
        for rank in ranks if downward else reversed(ranks):
            rank.sort(key=lambda item: _mean_order(item, item.above if downward else item.below))
            _number([rank])
        crossings = _crossings(ranks)
        if crossings < fewest:
            best, fewest = [list(rank) for rank in ranks], crossings
    ranks[:] = best
    _number(ranks)


def _number(ranks):
    for rank in ranks:
        for order, item in enumerate(rank):
            item.order = order


def _mean_order(item, links):
    # The offset of a wire within its box decides between the readers of one box's several tops.
    orders = [other.order - offset * 1e-4 for other, offset, _ in links]
    return sum(orders) / len(orders) if orders else item.order


def _crossings(ranks):
    """Count the pairs of wires that cross, between all neighbouring ranks."""
    total = 0
    for rank in ranks:
        ends: list[int] = []
        for item in rank:
            mine = sorted(other.order for other, _, _ in item.below)
            total += sum(len(ends) - bisect_right(ends, end) for end in mine)
            for end in mine:
                insort(ends, end)
    return total


def _place(ranks):
    for rank in ranks:
        _settle(rank, [0.0] * len(rank), [1.0] * len(rank))
    for sweep in range(2 * SWEEPS):
        downward = sweep % 2 == 0
        for rank in ranks if downward else reversed(ranks):
            wanted, weights = [], []
            for item in rank:
                links = (item.above if downward else item.below) or item.above + item.below
                weight = sum(pull for _, _, pull in links)
                pulled = sum((other.across - offset) * pull for other, offset, pull in links)
                wanted.append(pulled / weight if weight else item.across)
                weights.append(weight or 0.01)
            _settle(rank, wanted, weights)


def _settle(rank, wanted, weights):
    """Place a rank: the least squares of (place - wanted), weighted, in the rank's order and without overlaps.

    Counted from the place that its predecessors leave to each item at least, the places must only not fall.
    """
    base, bases = 0.0, []
    for i, item in enumerate(rank):
        if i:
            before = rank[i - 1]
            space = SPACE if item.box >= 0 and before.box >= 0 else WIRE_SPACE
            base += (before.size + item.size) / 2 + space
        bases.append(base)
    blocks: list[list[float]] = []  # mean, weight, number of items
    for want, weight, start in zip(wanted, weights, bases, strict=True):
        blocks.append([want - start, weight, 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            mean, mass, count = blocks.pop()
            before = blocks[-1]
            before[0] = (before[0] * before[1] + mean * mass) / (before[1] + mass)
            before[1] += mass
            before[2] += count
    means = [mean for mean, _, count in blocks for _ in range(int(count))]
    for item, mean, start in zip(rank, means, bases, strict=True):
        item.across = mean + start
