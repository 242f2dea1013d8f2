"""``caffe plot``: training runs as curves, and the learning rates of a run to come."""

from __future__ import annotations

import click

from caffetools.cli.command import Tool
from caffetools.cli.flags import flag

_USAGE = """\
draw the curves of training logs, or the learning rates that a solver asks for
usage: <program> [FLAGS] LOG...
       <program> [FLAGS] --solver=FILE,..."""


@click.command(
    "plot",
    cls=Tool,
    usage=_USAGE,
    examples=(
        "<program> --output=lenet.svg /tmp/caffe.INFO",
        "<program> --x=seconds first.log second.log",
        "<program> --solver=models/lenet/lenet_solver.prototxt",
    ),
)
@flag("solver", "", "solver definitions, comma-separated, to draw the schedules of", pattern="*.prototxt")
@flag("x", "iterations", "what the curves run over: iterations or seconds", choices=("iterations", "seconds"))
@flag("title", "", "what stands above the picture; the log's name if not given")
@flag(
    "output",
    "",
    "the picture to write, .png or .svg; the first file's name with .png if not given",
    pattern="*.png",
)
@click.pass_context
def command(
    ctx: click.Context, args: tuple[str, ...], solver: str, x: str, title: str, output: str
) -> object:
    """Draw logs or schedules."""
    if bool(args) == bool(solver):
        return ctx.command.refuse(ctx)
    from caffetools.tools import plot

    if solver:
        path = plot.plot_schedules([name.strip() for name in solver.split(",")], output, title)
    else:
        path = plot.plot_logs(args, output, x, title)
    print(f"Saved {path}")
    return 0


if __name__ == "__main__":
    command.main()
