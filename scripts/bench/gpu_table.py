"""What `bench_gpu` makes of its measurements: rates, ratios, the table, and the bars that they are held to."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import exp, log

#: No net may be slower than this part of PyTorch's rate, and the geometric mean of all ratios is to reach the other.
LOWEST, MEAN = 0.8, 1.0
#: AlexNet's forward pass in batches: milliseconds an image, and images a day that the original claimed for a card.
MILLISECONDS, IMAGES_A_DAY = 0.2, 72e6
SECONDS_A_DAY = 86400

HEADER = (
    f"{'net':<15}{'batch':>6}  {'what':<14}{'ours/s':>10}{'PyTorch/s':>11}{'ratio':>7}{'from':>7}{'to':>6}  "
    "first results"
)


@dataclass(frozen=True)
class Race:
    """Seconds that passes took on both sides, round by round. check: a result of the first pass of each side."""

    net: str
    batch: int
    what: str
    ours: Sequence[float]
    theirs: Sequence[float]
    check: tuple[float, float] = (0.0, 0.0)

    @property
    def ratios(self) -> list[float]:
        """How much faster we were, round by round."""
        return [b / a for a, b in zip(self.ours, self.theirs, strict=True)]

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios)

    @property
    def rates(self) -> tuple[float, float]:
        """Images a second of both sides, by the median times."""
        return self.batch / statistics.median(self.ours), self.batch / statistics.median(self.theirs)

    def line(self) -> str:
        """Return the line of the table."""
        ours, theirs = self.rates
        return (
            f"{self.net:<15}{self.batch:>6}  {self.what:<14}{ours:>10.0f}{theirs:>11.0f}{self.ratio:>7.2f}"
            f"{min(self.ratios):>7.2f}{max(self.ratios):>6.2f}  {self.check[0]:.4g} {self.check[1]:.4g}"
        )


def geometric_mean(values: Iterable[float]) -> float:
    """Return the geometric mean of positive numbers."""
    values = list(values)
    return exp(sum(map(log, values)) / len(values))


def verdicts(races: Sequence[Race]) -> list[str]:
    """Return a line for each bar that the measured nets say something about, `pass` or `FAIL` in front."""
    if not races:
        return ["nothing was measured"]
    slowest = min(races, key=lambda race: race.ratio)
    mean = geometric_mean(race.ratio for race in races)
    lines = [
        _verdict(
            slowest.ratio >= LOWEST,
            f"lowest ratio {slowest.ratio:.2f} ({slowest.net}, {slowest.what}), bar {LOWEST}",
        ),
        _verdict(mean >= MEAN, f"geometric mean {mean:.2f}, bar {MEAN:.1f}"),
    ]
    for race in races:
        if (race.net, race.what) == ("alexnet", "forward"):
            rate = race.rates[0]
            ms, day = 1000 / rate, rate * SECONDS_A_DAY
            lines.append(
                _verdict(ms < MILLISECONDS, f"AlexNet forward {ms:.4f} ms an image, bar {MILLISECONDS}")
            )
            words = f"{day / 1e6:.0f} million images a day, {day / IMAGES_A_DAY:.1f} times the original's claim"
            lines.append(_verdict(day > IMAGES_A_DAY, f"AlexNet forward {words}"))
    return lines


def _verdict(passed, words):
    return f"{'pass' if passed else 'FAIL'}  {words}"
