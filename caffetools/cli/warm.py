"""``caffe warm``: compile the kernels ahead of the first run."""

from __future__ import annotations

import click

from caffetools.cli.command import Tool
from caffetools.cli.flags import flag


@click.command(
    "warm",
    cls=Tool,
    usage="compile the kernels of LeNet, or of the nets named, ahead\nusage: <program> [FLAGS]",
    examples=(
        "<program>",
        "<program> --solver=models/googlenet/solver.prototxt",
        "<program> --model=my_net.prototxt --input=data:64,3,224,224",
        "<program> --models=models",
    ),
)
@flag("model", "", "a net to train and test for one step, a text file", pattern="*.prototxt")
@flag("solver", "", "a solver file, whose nets and update rule count", pattern="*.prototxt")
@flag("models", "", "a folder: all solvers and nets in it")
@flag("input", "", "shapes of inputs whose data is not at hand: data:64,3,227,227,label:64")
@click.pass_context
def command(
    ctx: click.Context, args: tuple[str, ...], model: str, solver: str, models: str, input: str
) -> object:
    """Fill the cache of compiled kernels."""
    if args:
        return ctx.command.refuse(ctx)
    from caffetools.tools import warm

    warm.warm(model, solver, models, input)
    return 0


if __name__ == "__main__":
    command.main()
