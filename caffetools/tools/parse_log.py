"""Reading a training log, ours or the original's, back into numbers."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

_NUMBER = r"([-+]?(?:[\d.]+(?:e[-+]?\d+)?|nan|inf))"
_ITERATION = re.compile(r"\] Iteration (\d+)")
_RATE = re.compile(rf"\] Iteration (\d+), lr = {_NUMBER}")
_OUTPUT = re.compile(rf"(Train|Test) net output #\d+: (\S+) = {_NUMBER}")
_LOSS = re.compile(rf"\] Iteration \d+ ?(?:\(.*\))?, loss = {_NUMBER}")


@dataclass
class TrainingLog:
    """The numbers of one run, by iteration.

    loss: (iteration, smoothed loss). rate: (iteration, learning rate). train, test: output name -> (iteration, value).
    """

    loss: list[tuple[int, float]] = field(default_factory=list)
    rate: list[tuple[int, float]] = field(default_factory=list)
    train: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    test: dict[str, list[tuple[int, float]]] = field(default_factory=dict)


def parse_log(path: str | Path) -> TrainingLog:
    """Read the log file of `caffe train`."""
    log = TrainingLog()
    iteration = 0
    for line in Path(path).read_text(encoding="utf-8", errors="replace").splitlines():
        if match := _ITERATION.search(line):
            iteration = int(match[1])
        if match := _OUTPUT.search(line):
            outputs = log.train if match[1] == "Train" else log.test
            outputs.setdefault(match[2], []).append((iteration, float(match[3])))
        elif match := _RATE.search(line):
            log.rate.append((iteration, float(match[2])))
        elif match := _LOSS.search(line):
            log.loss.append((iteration, float(match[1])))
    return log
