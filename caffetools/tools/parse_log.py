"""Reading a training log, ours or the original's, back into numbers.

    I1123 19:39:09.697414 29168 solver.py:239] Iteration 10 (39.7 iter/s, 0.25s/10 iters), loss = 1.24569

A prefix may have the year before month and day. Logs that were appended to each other, as those of a resumed
run, count as one: the seconds go on, without the time between the runs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from caffetools.glog import fatal

_NUMBER = r"([-+]?(?:[\d.]+(?:e[-+]?\d+)?|nan|inf))"
_TIME = re.compile(r"[IWEF](\d{4})?(\d\d)(\d\d) (\d\d):(\d\d):(\d\d)\.(\d{1,6})\d* ")
_START = re.compile(r"\] Solving ")
_TEST = re.compile(r"\] Iteration (\d+), Testing net \(#(\d+)\)")
_RATE = re.compile(rf"\] Iteration (\d+), lr = {_NUMBER}")
_LOSS = re.compile(rf"\] Iteration (\d+) ?(?:\(.*\))?, loss = {_NUMBER}")
_OUTPUT = re.compile(rf"(Train|Test) net output #\d+: (\S+) = {_NUMBER}")

Points = list[tuple[int, float]]


@dataclass
class Report:
    """What a log says of one iteration, in training or of a test.

    seconds: since the start of training; nan where lines have no time. loss: smoothed, of training only. rate:
    the learning rate. outputs: values by name; a blob of several values has `name`, `name[1]`, `name[2]`, ...
    net: the number of the test net.
    """

    iteration: int
    seconds: float
    loss: float | None = None
    rate: float | None = None
    outputs: dict[str, float] = field(default_factory=dict)
    net: int = 0

    def add_output(self, name: str, value: float) -> None:
        """Add a value; the further ones of a name get numbers."""
        key, number = name, 0
        while key in self.outputs:
            number += 1
            key = f"{name}[{number}]"
        self.outputs[key] = value


@dataclass
class TrainingLog:
    """The numbers of one log, in the order of its lines.

    displays: reports of the training net. tests: reports of the test nets.
    """

    displays: list[Report] = field(default_factory=list)
    tests: list[Report] = field(default_factory=list)

    @property
    def loss(self) -> Points:
        """(iteration, smoothed loss)"""
        return [(report.iteration, report.loss) for report in self.displays if report.loss is not None]

    @property
    def rate(self) -> Points:
        """(iteration, learning rate)"""
        return [(report.iteration, report.rate) for report in self.displays if report.rate is not None]

    @property
    def train(self) -> dict[str, Points]:
        """Output of the training net -> (iteration, value)"""
        return _by_name(self.displays)

    @property
    def test(self) -> dict[str, Points]:
        """Output of a test net -> (iteration, value); names of the second net's end in ` (net 1)`"""
        return _by_name(self.tests)


def parse_log(path: str | os.PathLike[str]) -> TrainingLog:
    """Read the log file of `caffe train`.

    Errors: FatalError for a file that cannot be read.
    """
    log = TrainingLog()
    for line, clock in timed_lines(path):
        _read_line(line, clock, log)
    return log


def timed_lines(path: str | os.PathLike[str]) -> Iterator[tuple[str, Clock]]:
    """Yield the lines of a log, each with the one clock, which has read it already.

    Errors: FatalError for a file that cannot be read.
    """
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            clock = Clock(datetime.fromtimestamp(os.fstat(file.fileno()).st_mtime).year)
            for line in file:
                clock.read(line)
                yield line, clock
    except OSError as err:
        fatal(f"Cannot read the log {os.fspath(path)}: {err.strerror}")


def starts_training(line: str) -> bool:
    """Say whether a line is the one from which seconds are counted."""
    return bool(_START.search(line))


def _read_line(line: str, clock: Clock, log: TrainingLog) -> None:
    if starts_training(line):
        clock.start(
            max((reports[-1].seconds for reports in (log.displays, log.tests) if reports), default=0.0)
        )
    elif match := _TEST.search(line):
        log.tests.append(Report(int(match[1]), clock.seconds, net=int(match[2])))
    elif match := _OUTPUT.search(line):
        reports = log.displays if match[1] == "Train" else log.tests
        if reports:  # else the log's beginning is missing
            if not reports[-1].outputs:
                reports[-1].seconds = clock.seconds
            reports[-1].add_output(match[2], float(match[3]))
    elif match := _RATE.search(line):
        _display(log, int(match[1]), clock).rate = float(match[2])
    elif match := _LOSS.search(line):
        log.displays.append(Report(int(match[1]), clock.seconds, loss=float(match[2])))


def _display(log, iteration, clock):
    """The report of this iteration, which may have begun with its loss."""
    if not log.displays or log.displays[-1].iteration != iteration:
        log.displays.append(Report(iteration, clock.seconds))
    return log.displays[-1]


def _by_name(reports):
    points: dict[str, Points] = {}
    for report in reports:
        for name, value in report.outputs.items():
            points.setdefault(net_name(name, report.net), []).append((report.iteration, value))
    return points


def net_name(output: str, net: int) -> str:
    """Return an output's name where there may be several test nets: those of the first net stay as they are."""
    return f"{output} (net {net})" if net else output


class Clock:
    """The seconds of training at each line.

    year: of lines that do not tell; a month that is earlier than that of the line before begins the next one.
    """

    def __init__(self, year: int):
        self.year = year
        self.now: datetime | None = None
        self.begin: datetime | None = None
        self.earlier = 0.0

    @property
    def seconds(self) -> float:
        if self.now is None:
            return float("nan")
        return self.earlier + (self.now - self.begin).total_seconds()

    def read(self, line: str) -> None:
        """Take the time of a line, if it has one."""
        match = _TIME.match(line)
        if match is None:
            return
        month, day, *time = (int(part) for part in match.groups()[1:-1])
        if match[1]:
            self.year = int(match[1])
        elif self.now is not None and month < self.now.month:
            self.year += 1
        if (month, day) == (2, 29):
            self._make_leap_year()
        try:
            self.now = datetime(self.year, month, day, *time, int(match[7].ljust(6, "0")))
        except ValueError:  # no date, whatever it is
            return
        self.begin = self.begin or self.now

    def start(self, earlier: float) -> None:
        """Begin a run, after so many seconds of earlier ones."""
        self.earlier = earlier
        self.begin = self.now

    def _make_leap_year(self) -> None:
        """Correct the year: a log without years may have been copied in another one than it was written in."""
        leap = self.year - self.year % 4
        if self.begin is not None:
            self.begin = self.begin.replace(year=self.begin.year + leap - self.year)
        self.year = leap
