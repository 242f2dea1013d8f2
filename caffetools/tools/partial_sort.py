"""The best few of many scores, equal ones in the order in which the original listed them.

The original sorted with C++'s std::partial_sort, which leaves equal elements in the order of its heap, and scores
are equal more often than one would think: a sure softmax gives 0 to most labels. So this is libstdc++'s algorithm:
a heap of the best so far with the worst of them on top, which each better score replaces; then the heap is taken
apart from the end.
"""

from __future__ import annotations

from collections.abc import Sequence


def best(scores: Sequence[float], count: int) -> list[int]:
    """Return the places of the `count` highest scores (all, if there are fewer), the highest first."""
    heap = list(range(min(count, len(scores))))
    size = len(heap)
    for parent in range(size // 2 - 1, -1, -1):
        _sink(heap, scores, parent, size, heap[parent])
    for place in range(size, len(scores)):
        if scores[place] > scores[heap[0]]:
            _sink(heap, scores, 0, size, place)
    for end in range(size - 1, 0, -1):
        last, heap[end] = heap[end], heap[0]
        _sink(heap, scores, 0, end, last)
    return heap


def _sink(heap: list[int], scores: Sequence[float], top: int, size: int, item: int) -> None:
    """Fill the hole at `top` of a heap of `size` with an item: let the hole sink to a leaf, then the item rise."""
    hole = top
    while (child := 2 * hole + 2) < size:
        if scores[heap[child]] > scores[heap[child - 1]]:
            child -= 1
        heap[hole] = heap[child]
        hole = child
    if child == size:
        heap[hole] = heap[child - 1]
        hole = child - 1
    while hole > top and scores[heap[parent := (hole - 1) // 2]] > scores[item]:
        heap[hole] = heap[parent]
        hole = parent
    heap[hole] = item
