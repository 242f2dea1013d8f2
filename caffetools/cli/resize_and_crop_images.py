"""``resize_and_crop_images``: a folder of pictures as squares of one size."""

from __future__ import annotations

import click

from caffetools.cli.command import Tool
from caffetools.cli.flags import flag

_USAGE = """\
resize the short side of pictures and cut squares out of their centres
usage: <program> --input_folder=FOLDER --output_folder=FOLDER [FLAGS]"""


@click.command(
    "resize_and_crop_images",
    cls=Tool,
    usage=_USAGE,
    examples=("<program> --input_folder=train --output_folder=train_256 --output_side_length=256",),
)
@flag("input_folder", "", "where the pictures are, also in folders below it")
@flag("output_folder", "", "where the squares go, in folders of the same names")
@flag("output_side_length", 256, "the squares' side, in pixels")
@flag(
    "image_lib", "opencv", "whose way of resizing: opencv, or pil, which smooths", choices=("opencv", "pil")
)
@flag(
    "input",
    "",
    "a list of pictures, by their paths below input_folder; without it all are taken",
    pattern="*.txt",
)
@click.pass_context
def command(
    ctx: click.Context,
    args: tuple[str, ...],
    input_folder: str,
    output_folder: str,
    output_side_length: int,
    image_lib: str,
    input: str,
) -> object:
    """Make the squares."""
    if args or not input_folder or not output_folder:
        return ctx.command.refuse(ctx)
    from caffetools.tools import resize_and_crop_images

    return resize_and_crop_images.resize_and_crop(
        input_folder, output_folder, output_side_length, image_lib.lower(), input
    )


if __name__ == "__main__":
    command.main()
