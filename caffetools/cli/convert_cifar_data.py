"""``convert_cifar_data``: CIFAR-10 as databases."""

from __future__ import annotations

import click

from caffetools.cli.command import Tool
from caffetools.cli.flags import flag

_USAGE = """\
turn the binary batches of CIFAR-10 into databases
usage: <program> [FLAGS] INPUT_FOLDER OUTPUT_FOLDER lmdb|leveldb

INPUT_FOLDER has the batches, unpacked, as data/cifar10/get_cifar10.sh fetches them;
OUTPUT_FOLDER gets cifar10_train_lmdb and cifar10_test_lmdb (or ..._leveldb)."""


@click.command(
    "convert_cifar_data", cls=Tool, usage=_USAGE, examples=("<program> data/cifar10 data/cifar10 lmdb",)
)
@flag("force", False, "replace databases of these names, once the new ones are complete")
@click.pass_context
def command(ctx: click.Context, args: tuple[str, ...], force: bool) -> object:
    """Convert, or show the usage unless there are three arguments."""
    if len(args) != 3:
        print(ctx.command.usage_text(ctx))
        return 0
    from caffetools.tools import convert_cifar_data

    return convert_cifar_data.convert(*args, force=force)


if __name__ == "__main__":
    command.main()
