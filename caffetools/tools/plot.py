"""`caffe plot`: training runs as curves, and the learning rates of a run to come."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from caffetools import upgrade
from caffetools.pictures import curves, style
from caffetools.pictures.curves import Curve, Panel
from caffetools.tools import schedule


def plot_schedule(solvers: Sequence[str], output: str = "") -> Path:
    """Draw the learning rates that solver files ask for, and return the picture's path.

    output: where it goes; by default it has the first file's name, in the current folder.
    """
    path = style.check_path(output or f"{Path(solvers[0]).stem}_learning_rate.png")
    lines, descriptions = [], []
    for run, file in enumerate(solvers):
        param = upgrade.read_solver(file)
        lines.append(Curve("", *schedule.schedule(param, file), run=run))
        descriptions.append(schedule.describe(param))
    title, names = f"Learning rate of {Path(solvers[0]).name} ({descriptions[0]})", []
    if len(solvers) > 1:
        title = "Learning rate"
        names = [f"{file} ({text})" for file, text in zip(solvers, descriptions, strict=True)]
    with style.look():
        figure = curves.draw([Panel(title, lines, curves.is_wide(lines))], "iteration", names)
        style.save(figure, path)
    return path
