"""``convert_mnist_siamese_data``: pairs of MNIST's pictures as a database."""

from __future__ import annotations

import click

from caffetools.cli.command import Tool
from caffetools.cli.flags import flag

_USAGE = """\
turn images and labels of MNIST into a database of random pairs
usage: <program> [FLAGS] IMAGE_FILE LABEL_FILE DB_NAME

A pair is one record of two channels; its label is 1 if both show the same digit."""


@click.command(
    "convert_mnist_siamese_data",
    cls=Tool,
    usage=_USAGE,
    examples=("<program> train-images-idx3-ubyte train-labels-idx1-ubyte mnist_siamese_train_leveldb",),
)
@flag("backend", "leveldb", "the kind of database: lmdb or leveldb", choices=("lmdb", "leveldb"))
@flag("seed", -1, "the same seed draws the same pairs; -1 draws new ones")
@flag("force", False, "replace a database of this name, once the new one is complete")
@click.pass_context
def command(ctx: click.Context, args: tuple[str, ...], backend: str, seed: int, force: bool) -> object:
    """Convert, or show the usage unless there are three arguments."""
    if len(args) != 3:
        print(ctx.command.usage_text(ctx))
        return 0
    from caffetools.tools import convert_mnist_siamese_data

    return convert_mnist_siamese_data.convert(*args, backend=backend, seed=seed, force=force)


if __name__ == "__main__":
    command.main()
