"""``caffe completion``: print the script that completes commands, flags and files in a shell."""

from __future__ import annotations

import click

from caffetools.cli.command import Tool

_USAGE = """\
print the completion script of a shell
usage: <program> bash|zsh|fish"""


@click.command(
    "completion",
    cls=Tool,
    usage=_USAGE,
    examples=("source <(<program> bash)", "<program> fish > ~/.config/fish/completions/caffe.fish"),
)
@click.pass_context
def command(ctx: click.Context, args: tuple[str, ...]) -> object:
    """Print the script for one shell."""
    from caffetools.cli.commands import TOOLS, load
    from caffetools.cli.shells import SHELLS, Entry

    if len(args) != 1 or args[0] not in SHELLS:
        return ctx.command.refuse(ctx)
    caffe = load("caffe")
    tools = {"caffe": caffe} | {name: caffe.get_command(ctx, name) for name in caffe.list_commands(ctx)}
    entries = [
        Entry(name, tool.short_help, tool.own_flags, name == "caffe" or name in TOOLS)
        for name, tool in tools.items()
    ]
    print(SHELLS[args[0]](entries), end="")
    return 0


if __name__ == "__main__":
    command.main()
