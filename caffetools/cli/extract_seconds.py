"""``extract_seconds``: the times of a training log's iterations."""

from __future__ import annotations

import click

from caffetools.cli.command import Tool

_USAGE = """\
write the seconds since the start of training for each iteration that a log names
usage: <program> LOGFILE OUTPUT_FILE"""


@click.command("extract_seconds", cls=Tool, usage=_USAGE, examples=("<program> caffe.INFO seconds.txt",))
@click.pass_context
def command(ctx: click.Context, args: tuple[str, ...]) -> object:
    """Write the seconds, or show the usage unless there are two arguments."""
    if len(args) != 2:
        return ctx.command.refuse(ctx)
    from caffetools.tools import extract_seconds

    extract_seconds.extract(*args)
    return 0


if __name__ == "__main__":
    command.main()
