"""``parse_log``: a training log as tables."""

from __future__ import annotations

import click

from caffetools.cli.command import Tool
from caffetools.cli.flags import flag

_USAGE = """\
turn the log of a training run into tables
usage: <program> [FLAGS] LOGFILE OUTPUT_FOLDER

Writes OUTPUT_FOLDER/LOGFILE.train and OUTPUT_FOLDER/LOGFILE.test: iterations, seconds,
learning rates and the outputs of the nets. The log may be the original's."""


@click.command(
    "parse_log",
    cls=Tool,
    usage=_USAGE,
    examples=("<program> caffe.INFO .", "<program> --format=json --verbose train.log tables/"),
)
@flag("format", "csv", "the form of the tables: csv or json", choices=("csv", "json"))
@flag("delimiter", ",", "the character between the columns of csv")
@flag("verbose", False, "print the names of the files that are written")
@click.pass_context
def command(ctx: click.Context, args: tuple[str, ...], format: str, delimiter: str, verbose: bool) -> object:
    """Write the tables, or show the usage unless there are two arguments."""
    if len(args) != 2:
        return ctx.command.refuse(ctx)
    from caffetools.tools import log_tables

    for path in log_tables.write_tables(*args, form=format, delimiter=delimiter):
        if verbose:
            print(f"Wrote {path}")
    return 0


if __name__ == "__main__":
    command.main()
