"""`caffe plot`: training runs as curves, and the learning rates of a run to come."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from caffetools import upgrade
from caffetools.glog import fatal
from caffetools.pictures import curves, style
from caffetools.pictures.curves import Curve, Panel
from caffetools.tools import run_curves, schedule
from caffetools.tools.parse_log import parse_log


def plot_logs(logs: Sequence[str], output: str = "", x: str = "iterations", title: str = "") -> Path:
    """Draw the curves of training logs, ours or the original's, and return the picture's path.

    output: where it goes; by default it has the first log's name, in the current folder. x: iterations or seconds.
    Errors: FatalError for logs that cannot be read or show no training, and for seconds that a log does not tell.
    """
    path = style.check_path(output or f"{Path(logs[0]).stem}.png")
    if x not in run_curves.AXES:
        fatal(f"--x={x}: it is one of {', '.join(run_curves.AXES)}")
    style.need_matplotlib()
    runs = [parse_log(log) for log in logs]
    for file, run in zip(logs, runs, strict=True):
        if not run.displays and not run.tests:
            fatal(
                f"{file} shows no iteration: it is no log of caffe train, or the run ended before the first"
            )
        if x == "seconds":
            run_curves.check_times(run, file)
    names = run_curves.run_names(logs)
    with style.look():
        figure = curves.draw(
            run_curves.panels(runs, x),
            run_curves.AXES[x][1],
            names,
            title or (names[0] if len(names) == 1 else ""),
        )
        style.save(figure, path)
    return path


def plot_schedules(solvers: Sequence[str], output: str = "", title: str = "") -> Path:
    """Draw the learning rates that solver files ask for, and return the picture's path.

    output: where it goes; by default it has the first file's name, in the current folder.
    """
    path = style.check_path(output or f"{Path(solvers[0]).stem}_learning_rate.png")
    style.need_matplotlib()
    lines, descriptions = [], []
    for run, file in enumerate(solvers):
        param = upgrade.read_solver(file)
        lines.append(Curve("", *schedule.schedule(param, file), run=run))
        descriptions.append(schedule.describe(param))
    heading, names = f"Learning rate of {Path(solvers[0]).name} ({descriptions[0]})", []
    if len(solvers) > 1:
        heading = "Learning rate"
        names = [f"{file} ({text})" for file, text in zip(solvers, descriptions, strict=True)]
    with style.look():
        panel = Panel(heading, lines, curves.is_wide(lines))
        style.save(curves.draw([panel], "iteration", names, title), path)
    return path
