"""``plot_training_log``: one of eight charts of training logs."""

from __future__ import annotations

import click

from caffetools.cli.command import Tool

_USAGE = """\
draw one of eight charts of training logs, ours or the original's
usage: <program> CHART_TYPE PICTURE LOG...

chart types:
  0: Test accuracy vs. Iterations        4: Train learning rate vs. Iterations
  1: Test accuracy vs. Seconds           5: Train learning rate vs. Seconds
  2: Test loss vs. Iterations            6: Train loss vs. Iterations
  3: Test loss vs. Seconds               7: Train loss vs. Seconds

PICTURE ends in .png or .svg. `caffe plot` draws all of them at once."""


@click.command(
    "plot_training_log",
    cls=Tool,
    usage=_USAGE,
    examples=("<program> 0 accuracy.png first.log second.log", "<program> 6 loss.svg caffe.INFO"),
)
@click.pass_context
def command(ctx: click.Context, args: tuple[str, ...]) -> object:
    """Draw a chart, or show the usage with too few arguments."""
    if len(args) < 3 or not args[0].isdecimal():
        return ctx.command.refuse(ctx)
    from caffetools.tools import plot_training_log

    plot_training_log.plot(int(args[0]), args[1], args[2:])
    print(f"Saved {args[1]}")
    return 0


if __name__ == "__main__":
    command.main()
