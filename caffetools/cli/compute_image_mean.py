"""``compute_image_mean``: the mean picture of a database."""

from __future__ import annotations

import click

from caffetools.cli.command import Tool
from caffetools.cli.flags import flag

_USAGE = """\
compute the mean picture of a database, and the mean of each channel
usage: <program> [FLAGS] INPUT_DB [OUTPUT_FILE]

OUTPUT_FILE is what mean_file in a data layer's transform_param names."""


@click.command(
    "compute_image_mean",
    cls=Tool,
    usage=_USAGE,
    examples=("<program> train_lmdb mean.binaryproto", "<program> --backend=leveldb train_leveldb"),
)
@flag("backend", "lmdb", "the kind of database: lmdb or leveldb", choices=("lmdb", "leveldb"))
@click.pass_context
def command(ctx: click.Context, args: tuple[str, ...], backend: str) -> object:
    """Compute, or show the usage unless there are one or two arguments."""
    if len(args) not in (1, 2):
        print(ctx.command.usage_text(ctx))
        return 1
    from caffetools.tools import compute_image_mean

    compute_image_mean.compute(*args, backend=backend)
    return 0


if __name__ == "__main__":
    command.main()
