"""``upgrade_net_proto_binary``: a trained net of an old schema in today's."""

from __future__ import annotations

import click

from caffetools.cli.command import Tool


@click.command(
    "upgrade_net_proto_binary",
    cls=Tool,
    usage="bring a trained net of an old schema up to date\nusage: <program> OLD_NET NEW_NET",
    examples=("<program> old.caffemodel new.caffemodel",),
)
@click.pass_context
def command(ctx: click.Context, args: tuple[str, ...]) -> object:
    """Upgrade the first file into the second."""
    if len(args) != 2:
        return ctx.command.refuse(ctx)
    from caffetools.tools import upgrade

    return upgrade.upgrade_net_binary(*args)


if __name__ == "__main__":
    command.main()
