"""``caffe export``: a net and its weights for other programs."""

from __future__ import annotations

import click

from caffetools.cli.command import Tool
from caffetools.cli.flags import flag


@click.command(
    "export",
    cls=Tool,
    usage="write a net as ONNX, or its weights as safetensors\n"
    "usage: <program> --model=FILE --weights=FILE --output=FILE.onnx [FLAGS]",
    examples=(
        "<program> --model=models/squeezenet_v1.1/deploy.prototxt --weights=W.caffemodel --output=squeezenet.onnx",
        "<program> --weights=W.caffemodel --safetensors=W.safetensors",
    ),
    log_to_stderr=False,
)
@flag("model", "", "the net definition, a text file; its TEST phase is written", pattern="*.prototxt")
@flag("weights", "", "the weights, a caffemodel or an .h5 file", pattern="*.caffemodel")
@flag("output", "", "the ONNX file to write", pattern="*.onnx")
@flag("safetensors", "", "the safetensors file to write", pattern="*.safetensors")
@flag("input", "", "shapes of inputs whose data is not at hand: data:1,3,224,224")
@flag("batch", 0, "the size of a batch to fix in the ONNX model; any size if not given")
@click.pass_context
def command(
    ctx: click.Context,
    args: tuple[str, ...],
    model: str,
    weights: str,
    output: str,
    safetensors: str,
    input: str,
    batch: int,
) -> object:
    """Export a net."""
    if args:
        return ctx.command.refuse(ctx)
    from caffetools.tools import export

    export.export(model, weights, output, safetensors, input, batch)
    return 0


if __name__ == "__main__":
    command.main()
