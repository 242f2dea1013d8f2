"""``caffe import``: a caffemodel from another program's weights."""

from __future__ import annotations

import click

from caffetools.cli.command import Tool
from caffetools.cli.flags import flag


@click.command(
    "import",
    cls=Tool,
    usage="write a caffemodel with the weights of a safetensors file\n"
    "usage: <program> --model=FILE --safetensors=FILE --output=FILE.caffemodel [FLAGS]",
    examples=("<program> --model=deploy.prototxt --safetensors=W.safetensors --output=W.caffemodel",),
    log_to_stderr=False,
)
@flag("model", "", "the net definition, a text file", pattern="*.prototxt")
@flag("safetensors", "", "the safetensors file to read", pattern="*.safetensors")
@flag("output", "", "the caffemodel to write", pattern="*.caffemodel")
@flag("input", "", "shapes of inputs whose data is not at hand: data:1,3,224,224")
@click.pass_context
def command(
    ctx: click.Context, args: tuple[str, ...], model: str, safetensors: str, output: str, input: str
) -> object:
    """Import weights."""
    if args:
        return ctx.command.refuse(ctx)
    from caffetools.tools import export

    export.import_weights(model, safetensors, output, input)
    return 0


if __name__ == "__main__":
    command.main()
