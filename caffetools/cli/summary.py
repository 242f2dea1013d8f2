"""``caffe summary``: a net's layers in a table."""

from __future__ import annotations

import click

from caffetools.cli.command import Tool
from caffetools.cli.flags import flag


@click.command(
    "summary",
    cls=Tool,
    usage="show a net's layers, parameters, multiply-adds and memory\nusage: <program> --model=FILE [FLAGS]",
    examples=(
        "<program> --model=models/alexnet/train_val.prototxt --batch=32",
        "<program> --model=models/lenet/lenet_train_test.prototxt --input=data:64,1,28,28 --phase=TEST",
    ),
    log_to_stderr=False,
)
@flag("model", "", "the net definition, a text file", pattern="*.prototxt")
@flag("phase", "", "the phase to show, TRAIN or TEST; TRAIN if not given", choices=("TRAIN", "TEST"))
@flag("level", 0, "the level of the net's state")
@flag("stage", "", "the stages of the net's state, comma-separated")
@flag("batch", 0, "the size of a batch, if not the one that the net says")
@flag("input", "", "shapes of inputs whose data is not at hand: data:64,3,227,227,label:64")
@click.pass_context
def command(
    ctx: click.Context,
    args: tuple[str, ...],
    model: str,
    phase: str,
    level: int,
    stage: str,
    batch: int,
    input: str,
) -> object:
    """Print the summary of a net."""
    if args:
        return ctx.command.refuse(ctx)
    from caffetools.tools import summary_table

    print(summary_table.describe(model, phase, level, stage, batch, input))
    return 0


if __name__ == "__main__":
    command.main()
