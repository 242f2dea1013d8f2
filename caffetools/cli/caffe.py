"""``caffe``: train, test, time and device_query, and every other command as ``caffe NAME``."""

from __future__ import annotations

import click

from caffetools import glog
from caffetools.cli.flags import flag
from caffetools.cli.run_flags import RUN_FLAGS, run_flags
from caffetools.cli.suite import Suite

_EFFECTS = ("stop", "snapshot", "none")
#: Flags that would change a run which --reproduce repeats.
_NOT_REPRODUCED = (
    "solver",
    "weights",
    "snapshot",
    "gpu",
    "level",
    "stage",
    "set",
    "dry_run",
    "metrics_interval",
    "tf32",
)
_USAGE = """\
command line brew
usage: <program> <command> <args>

commands:
  train           train or finetune a model
  test            score a model
  device_query    show GPU diagnostic information
  time            benchmark model execution time
"""


@click.command(
    "caffe",
    cls=Suite,
    usage=_USAGE,
    examples=(
        "<program> train --solver=models/lenet/lenet_solver.prototxt",
        "<program> train --help",
    ),
)
@flag("gpu", "", "GPUs to use: device ids, comma-separated, or 'all'; test and time use the first")
@flag("tf32", False, "let a GPU round the operands of float32 products to TF32: faster, three digits")
@flag("solver", "", "the solver definition, a text file", pattern="*.prototxt")
@flag("model", "", "the net definition, a text file", pattern="*.prototxt")
@flag("phase", "", "the phase to time, TRAIN or TEST; TRAIN if not given", choices=("TRAIN", "TEST"))
@flag("level", 0, "the level of the net's state")
@flag("stage", "", "the stages of the net's state, comma-separated")
@flag(
    "snapshot",
    "",
    "the snapshot of a solver's state to resume from; auto: the newest whole one of the solver's snapshot_prefix",
    pattern="*.solverstate*",
)
@flag(
    "weights",
    "",
    "the trained weights to start from: for train several files, comma-separated; not with --snapshot",
    pattern="*.caffemodel*",
)
@flag("iterations", 50, "the number of batches or repetitions to run")
@flag("sigint_effect", "stop", "what SIGINT (Ctrl-C) does: stop, snapshot or none", choices=_EFFECTS)
@flag("sighup_effect", "snapshot", "what SIGHUP does: stop, snapshot or none", choices=_EFFECTS)
@flag("sigterm_effect", "stop", "what SIGTERM does: stop, snapshot or none", choices=_EFFECTS)
@flag(
    "confusion",
    "",
    "a picture, .png or .svg, that test writes with the confusion matrix; tables and the most wrong samples beside it",
    pattern="*.png",
)
@flag("set", (), "a setting to change, such as solver.base_lr=0.02 or net.layer[conv1].param[0].lr_mult=0; repeat it")
@flag("dry_run", False, "build, check --iterations batches of data, try one iteration, and stop; nothing is written")
@flag("metrics", "", "a folder for metrics (JSON lines, CSV, TensorBoard events) and all that the run depends on")
@flag("metrics_interval", 1, "iterations between two rows of metrics")
@flag("reproduce", "", "a folder of --metrics whose run is repeated and compared")
@run_flags
@click.pass_context
def command(ctx: click.Context, args: tuple[str, ...], **_: object) -> None:
    """What ``caffe`` does without a command that it knows."""
    if len(args) != 1:
        print(ctx.command.usage_text(ctx))
        return
    (name,) = args
    glog.error("Available caffe actions:")
    for action in sorted(ctx.command.commands):
        glog.error(f"\t{action}")
    ctx.command.suggest(ctx, name)
    glog.fatal(f"Unknown action: {name}")


@command.action(
    "train",
    "train or finetune a model\nusage: <program> --solver=FILE [FLAGS]",
    examples=(
        "<program> --solver=models/lenet/lenet_solver.prototxt",
        "<program> --solver=solver.prototxt --snapshot=lenet_iter_5000.solverstate",
        "<program> --solver=solver.prototxt --weights=a.caffemodel,b.caffemodel",
        "<program> --solver=solver.prototxt --gpu=0 --log_dir=logs",
        "<program> --solver=solver.prototxt --snapshot=auto --time_limit=2h30m --metrics=run1",
        "<program> --solver=solver.prototxt --snapshot_best=accuracy --early_stop=accuracy",
        "<program> --solver=solver.prototxt --set solver.base_lr=0.02 --dry_run",
        "<program> --reproduce=run1",
    ),
    also=RUN_FLAGS,
)
def train(
    solver: str,
    weights: str,
    snapshot: str,
    gpu: str,
    level: int,
    stage: str,
    sigint_effect: str,
    sighup_effect: str,
    sigterm_effect: str,
    set: tuple[str, ...],
    dry_run: bool,
    iterations: int,
    metrics: str,
    metrics_interval: int,
    reproduce: str,
    tf32: bool,
    **settings: object,
) -> object:
    """Train a model."""
    from caffetools.tools import reproduction, train

    effects = {"sigint_effect": sigint_effect, "sighup_effect": sighup_effect, "sigterm_effect": sigterm_effect}
    given = click.get_current_context().meta["given"]
    if reproduce:
        others = [name for name in sorted(given) if name in _NOT_REPRODUCED or name in settings]
        if others:
            glog.fatal(f"--reproduce repeats a run as it was: leave --{others[0]} out")
        return reproduction.reproduce(reproduce, metrics, **effects)
    return train.train(
        solver,
        weights,
        snapshot,
        gpu,
        level,
        stage,
        **effects,
        settings={name: value for name, value in settings.items() if name in given},
        changes=set,
        metrics=metrics,
        metrics_interval=metrics_interval,
        dry_run=max(iterations, 1) if dry_run else 0,
        tf32=tf32,
    )


@command.action(
    "test",
    "score a model\nusage: <program> --model=FILE --weights=FILE [FLAGS]",
    examples=(
        "<program> --model=lenet_train_test.prototxt --weights=lenet.caffemodel --iterations=100",
        "<program> --model=lenet_train_test.prototxt --weights=lenet.caffemodel --iterations=100 --confusion=c.png",
    ),
)
def test(
    model: str, weights: str, iterations: int, gpu: str, level: int, stage: str, confusion: str, tf32: bool
) -> object:
    """Score a model."""
    from caffetools.tools import test

    return test.test(model, weights, iterations, gpu, level, stage, confusion, tf32)


@command.action(
    "device_query",
    "show GPU diagnostic information\nusage: <program> [--gpu=IDS]",
    examples=("<program> --gpu=all",),
)
def device_query(gpu: str) -> object:
    """Describe GPUs."""
    from caffetools.tools import device_query

    return device_query.device_query(gpu)


@command.action(
    "time",
    "benchmark model execution time\nusage: <program> --model=FILE [FLAGS]",
    examples=("<program> --model=lenet_train_test.prototxt --iterations=10 --phase=TEST",),
)
def time(model: str, iterations: int, phase: str, gpu: str, level: int, stage: str, tf32: bool) -> object:
    """Time a model, layer by layer."""
    from caffetools.tools import time

    return time.time(model, iterations, phase, gpu, level, stage, tf32)


if __name__ == "__main__":
    command.main()
