"""``detect``: the probabilities of classes for windows of pictures."""

from __future__ import annotations

import click

from caffetools.cli.command import Tool
from caffetools.cli.flags import flag
from caffetools.cli.picture_flags import net_flags, preparation_flags

_USAGE = """\
classify windows of pictures with a trained net
usage: <program> --model_def=FILE --pretrained_model=FILE [FLAGS] INPUT.csv|INPUT.txt OUTPUT.csv|OUTPUT.h5

INPUT.csv has the columns filename, ymin, xmin, ymax, xmax; the ends are exclusive. INPUT.txt has a picture a line,
whose windows selective search proposes. OUTPUT has the values of the net's first output for each window."""


@click.command(
    "detect",
    cls=Tool,
    usage=_USAGE,
    examples=(
        "<program> --model_def=deploy.prototxt --pretrained_model=rcnn.caffemodel --mean_file=104,117,123 "
        "windows.csv scores.csv",
    ),
    log_to_stderr=False,
)
@net_flags
@flag(
    "crop_mode",
    "",
    "where the windows come from: list (of the .csv file) or selective_search; by the kind of INPUT if not given",
    choices=("list", "selective_search"),
)
@flag("context_pad", 16, "how many pixels of the net's input show what is around a window; 0 for none")
@preparation_flags
@flag("top_k", 5, "how many of the surest windows to print")
@click.pass_context
def command(
    ctx: click.Context,
    args: tuple[str, ...],
    model_def: str,
    pretrained_model: str,
    mean_file: str,
    input_scale: str,
    raw_scale: str,
    channel_swap: str,
    **options: object,
) -> object:
    """Classify windows."""
    if len(args) != 2:
        return ctx.command.refuse(ctx)
    from caffetools.pycaffe.scripts.common import PictureSettings
    from caffetools.pycaffe.scripts.detect import detect

    settings = PictureSettings(mean_file, input_scale, raw_scale, channel_swap)
    detect(*args, model_def, pretrained_model, settings, **options)
    return 0


if __name__ == "__main__":
    command.main()
