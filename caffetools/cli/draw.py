"""``caffe draw``: the graph of a net as a picture."""

from __future__ import annotations

import click

from caffetools.cli.command import Tool
from caffetools.cli.flags import flag

_USAGE = """\
draw the graph of a net
usage: <program> [FLAGS] MODEL OUT.svg|OUT.png

Graphviz draws it where it is installed. Else SVG files need nothing, PNG files need matplotlib."""


@click.command(
    "draw",
    cls=Tool,
    usage=_USAGE,
    examples=(
        "<program> models/lenet/lenet_train_test.prototxt lenet.svg",
        "<program> --rankdir=LR --phase=TEST --input=data:1,3,224,224 models/googlenet/train_val.prototxt net.png",
    ),
    log_to_stderr=False,
)
@flag("rankdir", "TB", "where the graph flows: TB is from top to bottom", choices=("TB", "LR", "BT", "RL"))
@flag("phase", "ALL", "the phase to draw, or ALL for both in one", choices=("ALL", "TRAIN", "TEST"))
@flag("level", 0, "the level of the net's state, for one phase")
@flag("stage", "", "the stages of the net's state, comma-separated, for one phase")
@flag("display_lrm", False, "show the multipliers of learning rate and weight decay")
@flag("input", "", "shapes of inputs whose data is not at hand: data:64,3,227,227,label:64")
@flag(
    "engine",
    "auto",
    "who places the layers: graphviz, own, or whichever is there",
    choices=("graphviz", "own"),
)
@click.pass_context
def command(
    ctx: click.Context,
    args: tuple[str, ...],
    rankdir: str,
    phase: str,
    level: int,
    stage: str,
    display_lrm: bool,
    input: str,
    engine: str,
) -> object:
    """Draw a net."""
    if len(args) != 2:
        return ctx.command.refuse(ctx)
    from caffetools.tools import draw

    print(f"Saved {draw.draw(*args, rankdir, phase, display_lrm, input, engine, level, stage)}")
    return 0


if __name__ == "__main__":
    command.main()
