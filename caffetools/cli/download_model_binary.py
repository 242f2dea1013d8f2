"""``download_model_binary``: the weights of a model whose readme says where they are."""

from __future__ import annotations

import click

from caffetools.cli.command import Tool

_USAGE = """\
download the trained weights of a model into its folder
usage: <program> FOLDER

FOLDER/readme.md begins with lines between two ---: caffemodel: NAME, caffemodel_url: URL,
sha1: SUM."""


@click.command(
    "download_model_binary", cls=Tool, usage=_USAGE, examples=("<program> models/bvlc_reference_caffenet",)
)
@click.pass_context
def command(ctx: click.Context, args: tuple[str, ...]) -> object:
    """Download, or show the usage unless there is one argument."""
    if len(args) != 1:
        return ctx.command.refuse(ctx)
    from caffetools.tools import download_model

    print(download_model.download_model(*args))
    return 0


if __name__ == "__main__":
    command.main()
