"""``draw_net``: the graph of a net as the original draws it."""

from __future__ import annotations

import click

from caffetools.cli.command import Tool
from caffetools.cli.flags import flag

_USAGE = """\
draw the graph of a net with pydot, as the original's script did
usage: <program> [FLAGS] NET.prototxt OUTPUT

The ending of OUTPUT says which of Graphviz' formats it gets. Without pydot the picture is that of `caffe draw`."""


@click.command(
    "draw_net",
    cls=Tool,
    usage=_USAGE,
    examples=("<program> --rankdir=TB --phase=TEST models/lenet/lenet_train_test.prototxt lenet.png",),
    log_to_stderr=False,
)
@flag("rankdir", "LR", "where the graph flows: LR is from left to right", choices=("LR", "TB", "BT", "RL"))
@flag("phase", "ALL", "the phase to draw, or ALL for both in one", choices=("ALL", "TRAIN", "TEST"))
@flag("display_lrm", False, "show the multipliers of learning rates")
@click.pass_context
def command(ctx: click.Context, args: tuple[str, ...], rankdir: str, phase: str, display_lrm: bool) -> object:
    """Draw a net."""
    if len(args) != 2:
        return ctx.command.refuse(ctx)
    from caffetools.pycaffe.scripts.draw_net import draw_net

    draw_net(*args, rankdir, phase, display_lrm)
    return 0


if __name__ == "__main__":
    command.main()
