"""Arrays of any length through a net whose batches have a fixed one: cut, padded, and joined again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from caffetools.glog import fatal

Arrays = Mapping[str, np.ndarray]


def batches(arrays: Arrays, size: int) -> Iterator[dict[str, np.ndarray]]:
    """Cut arrays along their first axis into batches of `size`; the last one is filled up with zeros."""
    length = length_of(arrays)
    for start in range(0, length, size):
        batch = {name: array[start : start + size] for name, array in arrays.items()}
        missing = start + size - length
        if missing > 0:
            batch = {name: _pad(array, missing) for name, array in batch.items()}
        yield batch


def length_of(arrays: Arrays) -> int:
    """Return the length of the first axis, which is to be the same of all arrays."""
    (first, array), *others = arrays.items()
    for name, other in others:
        if len(other) != len(array):
            fatal(f"'{name}' has {len(other)} items, '{first}' has {len(array)}: they must have as many")
    return len(array)


class Collector:
    """Joins what several batches give.

    length: of the arrays that were cut; None where there were none. size: of a batch.
    """

    def __init__(self, length: int | None, size: int):
        self.length = length
        self.size = size
        self.parts: dict[str, list[np.ndarray]] = {}

    def add(self, arrays: Arrays) -> None:
        """Copy what a batch gave: these arrays are the net's."""
        for name, array in arrays.items():
            self.parts.setdefault(name, []).append(array.copy())

    def joined(self) -> dict[str, np.ndarray]:
        """Return the arrays without the items that filled the last batch up.

        What is no item of a batch, as a loss, is stacked: there is one for each batch.
        """
        return {name: self._join(parts) for name, parts in self.parts.items()}

    def _join(self, parts):
        if all(part.ndim and len(part) == self.size for part in parts):
            return np.concatenate(parts)[: self.length]
        return np.stack(parts)


def need_arrays(arrays: Arrays, what: str) -> None:
    """Refuse a call without arrays."""
    if not arrays:
        fatal(f"{what} needs arrays, named as the net's inputs: {what}(data=...)")


def _pad(array, missing):
    return np.concatenate([array, np.zeros((missing, *array.shape[1:]), array.dtype)])
