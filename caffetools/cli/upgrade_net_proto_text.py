"""``upgrade_net_proto_text``: a net definition of an old schema in today's."""

from __future__ import annotations

import click

from caffetools.cli.command import Tool


@click.command(
    "upgrade_net_proto_text",
    cls=Tool,
    usage="bring a net definition of an old schema up to date\nusage: <program> OLD_NET NEW_NET",
    examples=("<program> old_train_val.prototxt train_val.prototxt",),
)
@click.pass_context
def command(ctx: click.Context, args: tuple[str, ...]) -> object:
    """Upgrade the first file into the second."""
    if len(args) != 2:
        return ctx.command.refuse(ctx)
    from caffetools.tools import upgrade

    return upgrade.upgrade_net_text(*args)


if __name__ == "__main__":
    command.main()
