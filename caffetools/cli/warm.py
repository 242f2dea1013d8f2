"""``caffe warm``: compile the kernels ahead of the first run."""

from __future__ import annotations

import click

from caffetools.cli.command import Tool


@click.command("warm", cls=Tool, usage="compile the kernels ahead\nusage: <program>", examples=("<program>",))
@click.pass_context
def command(ctx: click.Context, args: tuple[str, ...]) -> object:
    """Fill the cache of compiled kernels."""
    if args:
        return ctx.command.refuse(ctx)
    from caffetools.tools import warm

    return warm.warm()


if __name__ == "__main__":
    command.main()
