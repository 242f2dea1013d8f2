"""``download_model_from_gist``: a model's files from a gist."""

from __future__ import annotations

import click

from caffetools.cli.command import Tool

_USAGE = """\
download the files of a model from a gist into a folder of its own
usage: <program> GIST [FOLDER]

GIST is the number of a gist on GitHub, or USER/NUMBER. The files go into
FOLDER/USER-NUMBER; FOLDER is models unless given."""


@click.command(
    "download_model_from_gist",
    cls=Tool,
    usage=_USAGE,
    examples=("<program> ksimonyan/211839e770f7b538e2d8", "<program> 211839e770f7b538e2d8 models"),
)
@click.pass_context
def command(ctx: click.Context, args: tuple[str, ...]) -> object:
    """Download, or show the usage unless there are one or two arguments."""
    if len(args) not in (1, 2):
        return ctx.command.refuse(ctx)
    from caffetools.tools import download_model

    print(f"Saved {download_model.download_gist(*args)}")
    return 0


if __name__ == "__main__":
    command.main()
