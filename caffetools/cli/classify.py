"""``classify``: the probabilities of classes for pictures."""

from __future__ import annotations

import click

from caffetools.cli.command import Tool
from caffetools.cli.flags import flag
from caffetools.cli.picture_flags import net_flags, preparation_flags

_USAGE = """\
classify pictures with a trained net
usage: <program> --model_def=FILE --pretrained_model=FILE [FLAGS] INPUT [OUTPUT.npy]

INPUT is a picture, a folder of pictures, or a .npy file of shape (n, height, width, channels) with values in [0, 1]."""


@click.command(
    "classify",
    cls=Tool,
    usage=_USAGE,
    examples=(
        "<program> --model_def=deploy.prototxt --pretrained_model=net.caffemodel --mean_file=104,117,123 "
        "--labels_file=synset_words.txt cat.jpg",
        "<program> --model_def=models/lenet/lenet.prototxt --pretrained_model=lenet_iter_10000.caffemodel "
        "--images_dim= --raw_scale=1 --center_only --ext=png digits result.npy",
    ),
    log_to_stderr=False,
)
@net_flags
@flag("center_only", False, "take the centre of each picture, not the mean of ten crops")
@flag(
    "images_dim",
    "256,256",
    "height,width to which pictures are resized before they are cropped; the net's if empty",
)
@flag("ext", "jpg", "the ending of the files in a folder that are pictures")
@preparation_flags
@flag("top_k", 5, "how many classes to print for each picture")
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
    """Classify pictures."""
    if len(args) not in (1, 2):
        return ctx.command.refuse(ctx)
    from caffetools.pycaffe.scripts.classify import classify
    from caffetools.pycaffe.scripts.common import PictureSettings

    settings = PictureSettings(mean_file, input_scale, raw_scale, channel_swap)
    classify(args[0], args[1] if len(args) == 2 else "", model_def, pretrained_model, settings, **options)
    return 0


if __name__ == "__main__":
    command.main()
