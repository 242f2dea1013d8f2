"""``classification``: what a trained net says of pictures."""

from __future__ import annotations

import click

from caffetools import glog
from caffetools.cli.command import Tool
from caffetools.cli.flags import flag

_USAGE = """\
show what a trained net says of pictures
usage: <program> [FLAGS] deploy.prototxt network.caffemodel MEAN labels.txt PICTURE...

MEAN is a mean file such as mean.binaryproto, of which the mean of each channel is
subtracted, or numbers such as 104,117,123 (blue, green, red), or '' for none. The whole
picture is resized to the net's input, unless deploy.transform.prototxt, beside
deploy.prototxt, says otherwise: it holds the fields of a data layer's transform_param.
A PICTURE may be a folder."""


@click.command(
    "classification",
    cls=Tool,
    usage=_USAGE,
    examples=(
        "<program> deploy.prototxt net.caffemodel mean.binaryproto labels.txt cat.jpg",
        "<program> --top=1 --csv=out.csv deploy.prototxt net.caffemodel 104,117,123 labels.txt pictures/",
    ),
    log_to_stderr=False,
)
@flag("top", 5, "how many labels to show for a picture")
@flag("batch", 8, "how many pictures go through the net at once")
@flag("csv", "", "write the results to this file as a table, too", pattern="*.csv")
@flag("json", "", "write the results to this file as JSON, too", pattern="*.json")
@flag("gpu", "", "the GPU to use: a device id")
@click.pass_context
def command(
    ctx: click.Context, args: tuple[str, ...], top: int, batch: int, csv: str, json: str, gpu: str
) -> object:
    """Classify, or show the usage with fewer than five arguments."""
    if len(args) < 5:
        glog.plain(ctx.command.usage_text(ctx))
        return 1
    from caffetools.tools import classification, predictions

    results = []
    for result in classification.classify(*args[:4], args[4:], top=top, batch=batch, gpu=gpu):
        if result.problem and len(args) == 5 and args[4] == result.file:
            glog.fatal(f"Check failed: !img.empty() {result.problem}")
        if result.problem:
            glog.error(result.problem)
        else:
            print(predictions.text(result), flush=True)
        results.append(result)
    for form, path in {"csv": csv, "json": json}.items():
        if path:
            predictions.write(path, form, results)
    return int(any(result.problem for result in results))


if __name__ == "__main__":
    command.main()
