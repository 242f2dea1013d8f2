"""``train_net``: train through the Python interface, as the original's train.py."""

from __future__ import annotations

import click

from caffetools.cli.command import Tool
from caffetools.cli.flags import flag

_USAGE = """\
train through the Python interface, with the times of layers
usage: <program> --solver=FILE [FLAGS]

The same training as `caffe train`, with the type of solver that the file names."""


@click.command(
    "train_net",
    cls=Tool,
    usage=_USAGE,
    examples=("<program> --solver=models/lenet/lenet_solver.prototxt --timing",),
)
@flag("solver", "", "the solver definition, a text file", pattern="*.prototxt")
@flag("snapshot", "", "the snapshot of a solver's state to continue from", pattern="*.solverstate*")
@flag(
    "gpus", "", "device ids of the GPUs to train on, with blanks or commas between them; the CPU if not given"
)
@flag("timing", False, "log the times of the layers at each display")
@click.pass_context
def command(
    ctx: click.Context, args: tuple[str, ...], solver: str, snapshot: str, gpus: str, timing: bool
) -> object:
    """Train a net."""
    if args and not gpus:
        return ctx.command.refuse(ctx)
    from caffetools.pycaffe.scripts.train import train

    train(solver, snapshot, [*filter(None, gpus.split(",")), *args], timing)
    return 0


if __name__ == "__main__":
    command.main()
