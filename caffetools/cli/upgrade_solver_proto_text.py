"""``upgrade_solver_proto_text``: a solver definition of an old schema in today's."""

from __future__ import annotations

import click

from caffetools.cli.command import Tool


@click.command(
    "upgrade_solver_proto_text",
    cls=Tool,
    usage="bring a solver definition of an old schema up to date\nusage: <program> OLD_SOLVER NEW_SOLVER",
    examples=("<program> old_solver.prototxt solver.prototxt",),
)
@click.pass_context
def command(ctx: click.Context, args: tuple[str, ...]) -> object:
    """Upgrade the first file into the second."""
    if len(args) != 2:
        return ctx.command.refuse(ctx)
    from caffetools.tools import upgrade

    return upgrade.upgrade_solver_text(*args)


if __name__ == "__main__":
    command.main()
