"""``caffe visualize``: a layer's filters, and what it makes of a picture."""

from __future__ import annotations

import click

from caffetools.cli.command import Tool
from caffetools.cli.flags import flag

_USAGE = """\
show a layer's filters, and its activations for a picture
usage: <program> --weights=FILE --layer=NAME [FLAGS]
       <program> --weights=FILE --layer=NAME --model=FILE --image=FILE [FLAGS]"""


@click.command(
    "visualize",
    cls=Tool,
    usage=_USAGE,
    examples=(
        "<program> --weights=lenet_iter_10000.caffemodel --layer=conv1",
        "<program> --weights=lenet_iter_10000.caffemodel --layer=pool1 --model=lenet.prototxt --image=seven.png "
        "--scale=0.00390625 --output=pool1.svg",
    ),
    log_to_stderr=False,
)
@flag("weights", "", "the trained net: a .caffemodel or .h5 file", pattern="*.caffemodel*")
@flag("layer", "", "the name of the layer")
@flag("model", "", "the net definition, a text file; needed with --image", pattern="*.prototxt")
@flag("image", "", "the picture to run the net on")
@flag(
    "mean",
    "",
    "what to subtract from it: numbers for blue, green, red, or a .binaryproto file",
    pattern="*.binaryproto",
)
@flag("scale", "", "what to multiply its values with, after the mean; the data layer's if not given")
@flag("norm", False, "show each filter by its norms over the input channels")
@flag("output", "", "the picture to write, .png or .svg; <layer>.png if not given", pattern="*.png")
@click.pass_context
def command(
    ctx: click.Context,
    args: tuple[str, ...],
    weights: str,
    layer: str,
    model: str,
    image: str,
    mean: str,
    scale: str,
    norm: bool,
    output: str,
) -> object:
    """Draw a layer."""
    if args:
        return ctx.command.refuse(ctx)
    from caffetools.tools import visualize

    print(f"Saved {visualize.visualize(weights, layer, model, output, image, mean, scale, norm)}")
    return 0


if __name__ == "__main__":
    command.main()
