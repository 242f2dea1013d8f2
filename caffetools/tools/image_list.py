"""Lists of pictures: a line for each, `path label` or `path label label ...`.

Paths may contain blanks, so that the labels are what follows the last one; where several labels are asked for,
their number is that of the first line.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from caffetools import glog
from caffetools.engine.cpu.rng import RandomSource, mix
from caffetools.glog import fatal

_INT32 = range(-(2**31), 2**31)


class Line(NamedTuple):
    """A line of a list: a path as it stands there, and its labels."""

    path: str
    labels: tuple[float, ...]


def _whole(text: str) -> int:
    value = int(text)
    if value not in _INT32:
        raise ValueError(text)
    return value


class LabelType(NamedTuple):
    """How labels are read. several: whether a line may have more than one. noun: for messages."""

    convert: Callable[[str], float]
    several: bool
    noun: str


LABEL_TYPES = {
    "int": LabelType(_whole, False, "whole number of 32 bits"),
    "ints": LabelType(_whole, True, "whole number of 32 bits"),
    "float": LabelType(float, False, "number"),
    "floats": LabelType(float, True, "number"),
}


def read(path: str, label_type: str = "int") -> list[Line]:
    """Return the lines of a list.

    label_type: int or float for one label a line, ints or floats for several. A line of a path alone has the
    label 0, as in the original, if one whole number is asked for.
    Errors: FatalError for a list that cannot be read or is empty, and for labels that are no numbers or are
    more or fewer than in the first line; these name the line.
    """
    if label_type not in LABEL_TYPES:
        fatal(f"Unknown label_type: {label_type} (known: {', '.join(LABEL_TYPES)})")
    try:
        text = Path(path).read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as err:
        fatal(f"Failed to open the list of pictures: {path} ({err.strerror})")
    numbered = [(n, line.rstrip()) for n, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not numbered:
        fatal(f"The list of pictures is empty: {path}")
    kind = LABEL_TYPES[label_type]
    count = _count_labels(numbered[0][1], kind) if kind.several else 1
    lines = [_parse(line, kind, count, f"{path}, line {number}") for number, line in numbered]
    unlabelled = sum(not line.labels for line in lines)
    if unlabelled and label_type != "int":
        fatal(f"{path} has {unlabelled} line(s) without a label")
    if unlabelled:
        glog.warning(f"{unlabelled} of {len(lines)} lines of {path} have no label: it is set to 0")
    return [line if line.labels else Line(line.path, (0,)) for line in lines]


def shuffled(lines: list[Line], seed: int) -> list[Line]:
    """Return the lines in another order, the same for the same seed; a negative seed stands for a new one."""
    key = int(RandomSource(seed).key())
    lines = list(lines)
    for last in range(len(lines) - 1, 0, -1):  # Fisher and Yates
        other = mix(key, last) % (last + 1)
        lines[last], lines[other] = lines[other], lines[last]
    return lines


def _count_labels(line: str, kind: LabelType) -> int:
    """The number of words at the end of a line that are labels; the first word belongs to the path."""
    count = 0
    for word in reversed(line.split()[1:]):
        try:
            kind.convert(word)
        except ValueError:
            break
        count += 1
    return max(count, 1)


def _parse(line: str, kind: LabelType, count: int, where: str) -> Line:
    path, *words = line.rsplit(maxsplit=count)
    if words and len(words) < count:
        fatal(f"{where}: {count} labels are expected, as in the first line, but not in '{line}'")
    labels = []
    for word in words:
        try:
            labels.append(kind.convert(word))
        except ValueError:
            fatal(
                f"{where}: '{word}', behind the last blank, is no label: a {kind.noun} is expected"
                + ("" if kind.several else _advice(word))
            )
    return Line(path, tuple(labels))


def _advice(word: str) -> str:
    """What to do about a word that is a number of another kind."""
    try:
        float(word)
    except ValueError:
        return ""
    return " (--label_type=float keeps fractions)"
