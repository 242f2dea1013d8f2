"""The types with which kernels are started: a text file for each module, a line `kernel(types)` for each way."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

FOLDER = Path(__file__).parent
#: (module, kernel, types)
Signature = tuple[str, str, str]


def known() -> set[Signature]:
    """Return all that are recorded."""
    found = set()
    for path in FOLDER.glob("*.txt"):
        for line in path.read_text().splitlines():
            kernel, _, types = line.rstrip(")").partition("(")
            found.add((path.stem, kernel, types))
    return found


def new(kernels: Iterable) -> set[Signature]:
    """Return those of kernels of the package that are not recorded."""
    mine = {(kernel.module, kernel.name, types) for kernel in kernels for types in kernel.signatures}
    return {signature for signature in mine if signature[0].startswith("caffetools.")} - known()


def add(signatures: set[Signature]) -> None:
    """Record more of them."""
    together = known() | signatures
    for module in {module for module, _, _ in signatures}:
        lines = sorted(f"{kernel}({types})\n" for name, kernel, types in together if name == module)
        (FOLDER / f"{module}.txt").write_text("".join(lines))
