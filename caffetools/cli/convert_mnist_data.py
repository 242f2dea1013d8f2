"""``convert_mnist_data``: the MNIST files as a database."""

from __future__ import annotations

import click

from caffetools.cli.command import Tool
from caffetools.cli.flags import flag

_USAGE = """\
turn images and labels of MNIST into a database
usage: <program> [FLAGS] IMAGE_FILE LABEL_FILE DB_NAME

The files are those of data/mnist/get_mnist.sh, as they are or with .gz."""


@click.command(
    "convert_mnist_data",
    cls=Tool,
    usage=_USAGE,
    examples=(
        "<program> train-images-idx3-ubyte train-labels-idx1-ubyte mnist_train_lmdb",
        "<program> --backend=leveldb t10k-images-idx3-ubyte.gz t10k-labels-idx1-ubyte.gz mnist_test_leveldb",
    ),
)
@flag("backend", "lmdb", "the kind of database: lmdb or leveldb", choices=("lmdb", "leveldb"))
@click.pass_context
def command(ctx: click.Context, args: tuple[str, ...], backend: str) -> object:
    """Convert, or show the usage unless there are three arguments."""
    if len(args) != 3:
        print(ctx.command.usage_text(ctx))
        return 0
    from caffetools.tools import convert_mnist_data

    return convert_mnist_data.convert(*args, backend=backend)


if __name__ == "__main__":
    command.main()
