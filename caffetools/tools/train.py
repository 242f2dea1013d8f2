"""`caffe train`: train a net from a solver file, from scratch, from weights or from a snapshot."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from caffetools import upgrade
from caffetools.engine.cpu.rng import RandomSource
from caffetools.engine.group import Alone
from caffetools.glog import check, check_gt, info, note
from caffetools.proto import caffe_pb2
from caffetools.solver import Solver, newest, report, signals
from caffetools.solver.nets import Edit
from caffetools.tools import engines, ranks, rehearsal
from caffetools.tools.changes import Changes
from caffetools.tools.metrics import Metrics, images_per_step
from caffetools.tools.run_folder import Origin

if TYPE_CHECKING:
    from caffetools.engine.gpu.device import Engine
    from caffetools.engine.process_group import ProcessGroup

AUTO = "auto"
ALONE = Alone()


def train(
    solver: str,
    weights: str = "",
    snapshot: str = "",
    gpu: str = "",
    level: int = 0,
    stage: str = "",
    sigint_effect: str = signals.STOP,
    sighup_effect: str = signals.SNAPSHOT,
    sigterm_effect: str = signals.STOP,
    settings: Mapping[str, object] | None = None,
    changes: Sequence[str] = (),
    metrics: str = "",
    metrics_interval: int = 1,
    dry_run: int = 0,
    tf32: bool = False,
    group: ProcessGroup | None = None,
) -> Solver | int:
    """Train the net of the solver file `solver` and return its solver.

    weights: comma list of files to start from. snapshot: a solverstate to resume, or "auto" for the newest whole one of
    the solver's prefix, if there is any. level, stage (a comma list): the state of the training net. The effects say
    what the signals do: stop, snapshot or none. settings: solver fields that replace those of the file. changes: texts
    of `--set`, made last. metrics: a folder for rows of numbers, one each `metrics_interval` iterations. dry_run: so
    many batches of data are looked at, nothing is trained, and the exit status is returned. tf32: whether a GPU may
    multiply with fewer digits.

    group: the processes of several GPUs. Without it, where `gpu` names several, this process is rank 0 and starts the
    others; a dry run is one of the first GPU alone.
    """
    check_gt(len(solver), 0, "FLAGS_solver.size() > 0", "Need a solver definition to train.")
    check(
        not snapshot or not weights or snapshot == AUTO,
        "!FLAGS_snapshot.size() || !FLAGS_weights.size()",
        "Give a snapshot to resume training or weights to finetune but not both.",
    )
    check_gt(metrics_interval, 0, "FLAGS_metrics_interval > 0", "It counts iterations between rows of metrics.")
    effects = check_effects(sigint_effect, sighup_effect, sigterm_effect)
    if group is None and not dry_run:
        shared = {
            "solver": solver,
            "weights": weights,
            "snapshot": snapshot,
            "gpu": gpu,
            "level": level,
            "stage": stage,
            "settings": dict(settings or {}),
            "changes": tuple(changes),
            "tf32": tf32,
        }
        group = ranks.start(gpu, _follow, shared)
        if group is not None:
            signal_effects = {f"{name.lower()}_effect": effect for name, effect in effects.items()}
            with group.guarded():
                return train(
                    **shared, **signal_effects, metrics=metrics, metrics_interval=metrics_interval, group=group
                )
    group = group or ALONE
    param = upgrade.read_solver(solver)
    # The command line's level replaces the file's, its stages are added: an empty --stage adds the stage "".
    param.train_state.level = level
    param.train_state.stage.extend(stage.split(","))
    for name, value in (settings or {}).items():
        setattr(param, name, value)
    edits = Changes(changes)
    edits.apply_to_solver(param)
    if dry_run:
        gpu = engines.first(gpu)
    engine = engines.choose(gpu, param, tf32, group.rank)
    if snapshot or weights:
        del param.weights[:]
    if weights:
        param.weights.append(weights)
    nets: list[caffe_pb2.NetParameter] = []
    keep = keeping_copies(nets)

    def edit_net(net: caffe_pb2.NetParameter) -> None:
        edits.apply_to_net(net)
        if dry_run or not group.leads:
            # Rank 0 writes for all.
            rehearsal.leave_out_writers(net)
        keep(net)

    with ranks.watch_signals(effects, group) as watch:
        training = build(param, watch.requested, edit_net, engine, ranks.random_source(group), group)
        try:
            if group.leads:
                edits.check_done()
            goes_on = bool(snapshot)
            if snapshot == AUTO:
                snapshot = group.agree(lambda: newest.newest_whole(training))
                if not snapshot:
                    info(f"There is no whole snapshot {param.snapshot_prefix}_iter_*: starting from the beginning")
            if snapshot:
                info(f"Resuming from {snapshot}")
                training.restore(snapshot)
            if dry_run:
                return rehearsal.rehearse(training, dry_run)
            rows = None
            if metrics and group.leads:
                rows = Metrics(metrics, training, Origin(solver, snapshot, nets, gpu, goes_on), metrics_interval)
            run(training, rows)
        finally:
            training.close()
    return training


def _follow(group, arguments):
    """Train as rank 0 does."""
    train(**arguments, group=group)


def check_effects(sigint_effect: str, sighup_effect: str, sigterm_effect: str) -> dict[str, str]:
    """Return what the signals do by their names. Errors: FatalError for other effects than stop, snapshot and none."""
    return {
        "SIGINT": signals.check_effect(sigint_effect, "sigint_effect"),
        "SIGHUP": signals.check_effect(sighup_effect, "sighup_effect"),
        "SIGTERM": signals.check_effect(sigterm_effect, "sigterm_effect"),
    }


def keeping_copies(copies: list[caffe_pb2.NetParameter]) -> Edit:
    """Return a function that appends copies of the nets that a solver builds: of training, then of the tests."""

    def keep(net: caffe_pb2.NetParameter) -> None:
        copy = caffe_pb2.NetParameter()
        copy.CopyFrom(net)
        copies.append(copy)

    return keep


def build(
    param: caffe_pb2.SolverParameter,
    requested: Callable[[], str],
    edit_net: Edit,
    engine: Engine | None = None,
    random: RandomSource | None = None,
    group: Alone = ALONE,
) -> Solver:
    """Return the solver that a run has. random: where a file without `random_seed` takes its random numbers from."""
    return Solver(param, requested, group, random, edit_net=edit_net, engine=engine, plan=True)


def run(training: Solver, rows: Metrics | None = None) -> None:
    """Train, with what `caffe train` says before and after. rows: listens, and is told how the run ended.

    The solvers of a group train together.
    """
    nets = (training.net, *training.test_nets)
    report.memory_note(net.memory() for net in nets)
    if rows is not None:
        training.listeners.append(rows)
    outcome = "failed"
    try:
        info("Starting Optimization")
        wait = report.DataWait(nets)
        exchange = ranks.connect(training)
        if exchange is not None:
            note(f"{images_per_step(training)} samples a step: batches are those of one of {training.group.ranks} GPUs")
        training.solve()
        wait.note()
        info("Optimization Done.")
        outcome = "stopped" if training.iter < training.param.max_iter else "done"
        if exchange is not None:
            exchange.close()
    finally:
        if rows is not None:
            rows.close(outcome)
