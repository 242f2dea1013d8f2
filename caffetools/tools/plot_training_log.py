"""`plot_training_log`: the original's eight charts of training logs, each over iterations and over seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from caffetools.glog import fatal
from caffetools.pictures import curves, style
from caffetools.tools import run_curves
from caffetools.tools.parse_log import parse_log


class Chart(NamedTuple):
    """A kind of chart: its name, and which curves of which panel of `run_curves` it shows."""

    name: str
    panel: str
    of_tests: bool


KINDS = (
    Chart("Test accuracy", run_curves.ACCURACY, True),
    Chart("Test loss", run_curves.LOSS, True),
    Chart("Train learning rate", run_curves.RATE, False),
    Chart("Train loss", run_curves.LOSS, False),
)
#: The charts by their numbers.
CHARTS = [(kind, x) for kind in KINDS for x in ("iterations", "seconds")]


def describe_charts() -> list[str]:
    """Return a line for each chart: its number and what it shows."""
    return [f"{number}: {kind.name} vs. {x.capitalize()}" for number, (kind, x) in enumerate(CHARTS)]


def plot(number: int, picture: str, logs: Sequence[str]) -> None:
    """Draw chart `number` of some logs into `picture`, .png or .svg.

    Errors: FatalError for a number that is no chart's, logs that cannot be read, and a chart without any curve.
    """
    if not 0 <= number < len(CHARTS):
        fatal(f"There is no chart {number}. The charts are\n" + "\n".join(describe_charts()))
    kind, x = CHARTS[number]
    path = style.check_path(picture, "the picture")
    style.need_matplotlib()
    runs = [parse_log(log) for log in logs]
    if x == "seconds":
        for log, run in zip(logs, runs, strict=True):
            run_curves.check_times(run, log)
    panels = [panel for panel in run_curves.panels(runs, x) if panel.title == kind.panel]
    shown = [curve for panel in panels for curve in panel.curves if curve.measured == kind.of_tests]
    if not shown:
        fatal(f"There is no {kind.name.lower()} in {', '.join(logs)}")
    panel = replace(panels[0], title=f"{kind.name} vs. {x}", curves=shown)
    with style.look():
        style.save(curves.draw([panel], run_curves.AXES[x][1], run_curves.run_names(logs)), path)
