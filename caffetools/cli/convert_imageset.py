"""``convert_imageset``: picture files and labels as a database."""

from __future__ import annotations

import click

from caffetools.cli.command import Tool
from caffetools.cli.flags import flag
from caffetools.glog import fatal

_USAGE = """\
turn picture files, as a list names them, into a database
usage: <program> [FLAGS] ROOTFOLDER/ LISTFILE DB_NAME

A line of the list is a path, which ROOTFOLDER/ is put before, a blank and the label."""


@click.command(
    "convert_imageset",
    cls=Tool,
    usage=_USAGE,
    examples=(
        "<program> --resize_width=256 --resize_height=256 --shuffle pictures/ train.txt train_lmdb",
        "<program> --backend=leveldb -shuffle=true pictures/ train.txt train_leveldb",
        "<program> --encoded pictures/ train.txt train_lmdb",
    ),
)
@flag("gray", False, "store one channel, gray, instead of blue, green and red")
@flag("shuffle", False, "put the list into a random order first; see --seed")
@flag("backend", "lmdb", "the kind of database: lmdb or leveldb", choices=("lmdb", "leveldb"))
@flag("resize_width", 0, "resize to this width; only together with --resize_height")
@flag("resize_height", 0, "resize to this height; only together with --resize_width")
@flag("check_size", False, "stop at a picture that has more or fewer values than the first")
@flag("encoded", False, "store picture files, as they are where nothing is to be changed, instead of pixels")
@flag("encode_type", "", "the type to encode pictures as, png, jpg, ...; implies --encoded")
@flag("seed", -1, "the seed of --shuffle: the same seed gives the same order; -1 gives a new one")
@flag("force", False, "replace a database of this name, once the new one is complete")
@flag(
    "label_type",
    "int",
    "labels of a line: int, ints (several), float or floats; all but int go to a second database, DB_NAME_labels",
    choices=("int", "ints", "float", "floats"),
)
@flag("skip_bad", False, "exit with 0 even if pictures could not be read and were skipped")
@click.pass_context
def command(
    ctx: click.Context,
    args: tuple[str, ...],
    gray: bool,
    shuffle: bool,
    backend: str,
    resize_width: int,
    resize_height: int,
    check_size: bool,
    encoded: bool,
    encode_type: str,
    seed: int,
    force: bool,
    label_type: str,
    skip_bad: bool,
) -> object:
    """Convert, or show the usage with fewer than three arguments."""
    if len(args) < 3:
        print(ctx.command.usage_text(ctx))
        return 1
    if len(args) > 3 and args[0].lower() in ("true", "false"):
        fatal(
            f"'{args[0]}' is taken for ROOTFOLDER/: a flag that is on or off has its value behind '=', as in"
            f" --shuffle={args[0]}"
        )
    from caffetools.tools import convert_imageset

    options = convert_imageset.Options(gray, resize_width, resize_height, encoded, encode_type, check_size)
    return convert_imageset.convert(
        *args[:3],
        options,
        backend=backend,
        shuffle=shuffle,
        seed=seed,
        label_type=label_type,
        force=force,
        skip_bad=skip_bad,
    )


if __name__ == "__main__":
    command.main()
