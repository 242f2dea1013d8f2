"""``caffe data``: what is in a database."""

from __future__ import annotations

import click

from caffetools.cli.command import Tool
from caffetools.cli.flags import flag

_USAGE = """\
show what is in a database: shapes, classes, repeated and damaged records
usage: <program> [FLAGS] DB

With --model and --weights, a net says which labels it doubts."""


@click.command(
    "data",
    cls=Tool,
    usage=_USAGE,
    examples=(
        "<program> models/lenet/mnist_train_lmdb",
        "<program> --sheet=samples.png --labels=labels.txt train_lmdb",
        "<program> --model=train_test.prototxt --weights=net.caffemodel --suspects=doubtful.png train_lmdb",
    ),
    log_to_stderr=False,
)
@flag(
    "backend",
    "",
    "the kind of database, lmdb or leveldb; found out if not given",
    choices=("lmdb", "leveldb"),
)
@flag("decode", False, "decode encoded pictures to the last pixel, which finds the damaged ones")
@flag("labels", "", "a file with the names of the classes, a line each", pattern="*.txt")
@flag("sheet", "", "draw samples with their labels into this picture, .png or .svg", pattern="*.png")
@flag("samples", 36, "how many samples --sheet draws")
@flag("seed", 0, "the seed of drawing samples: another one draws others")
@flag("rgb", False, "draw channels as red, green and blue, as convert_cifar_data stores them")
@flag("model", "", "the net of training and testing that checks the labels", pattern="*.prototxt")
@flag("weights", "", "its trained weights", pattern="*.caffemodel*")
@flag("suspects", "", "draw the records with the most doubtful labels into this picture", pattern="*.png")
@click.pass_context
def command(
    ctx: click.Context,
    args: tuple[str, ...],
    backend: str,
    decode: bool,
    labels: str,
    sheet: str,
    samples: int,
    seed: int,
    rgb: bool,
    model: str,
    weights: str,
    suspects: str,
) -> object:
    """Describe a database, and draw and check what the flags ask for."""
    if len(args) != 1:
        return ctx.command.refuse(ctx)
    from caffetools.tools import data

    options = (backend, decode, labels, sheet, samples, seed, rgb, model, weights, suspects)
    for text in data.describe(args[0], *options):
        print(text, flush=True)
    return 0


if __name__ == "__main__":
    command.main()
