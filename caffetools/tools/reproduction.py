"""`caffe train --reproduce=DIR`: repeat the run of a folder of metrics, and compare what comes out, bit for bit."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from caffetools import upgrade
from caffetools.glog import error, fatal, info, warning
from caffetools.proto import caffe_pb2
from caffetools.solver import Solver, signals
from caffetools.tools import engines, environment, ranks, rehearsal, train
from caffetools.tools.metrics import Metrics, read_rows
from caffetools.tools.run_folder import SOLVER, Origin, read_record, with_nets

#: The ranks from 1 on do what rank 0 is asked for.
_NO_EFFECTS = dict.fromkeys(("sigint_effect", "sighup_effect", "sigterm_effect"), signals.NONE)


def reproduce(folder: str, metrics: str = "", **effects: str) -> int:
    """Repeat a run up to where its metrics end; return 0 if all losses and test outputs are the same, else 1.

    metrics: where the repetition's own metrics and snapshots go; by default a new folder within `folder`. It starts as
    the run did, also from the same snapshot, in the same working folder, and passes over its time limit. effects: what
    the signals do, as for `train`.
    """
    source = Path(folder).resolve()
    record = read_record(source)
    first = record["starts"][0]
    theirs = read_rows(source)
    if not any(row["kind"] == "train" for row in theirs):
        fatal(f"{folder} has no iterations to reproduce")
    target = Path(metrics).resolve() if metrics else _new_folder(source)
    for message in differences(first):
        warning(message)
    _go_to(first["folder"])
    param = with_nets(upgrade.read_solver(source / SOLVER), [str(source / name) for name in record["nets"]])
    param.ClearField("time_limit")
    target.mkdir(parents=True, exist_ok=True)
    param.snapshot_prefix = str(target / (Path(param.snapshot_prefix).name or "snapshot"))
    last = max(row["iteration"] for row in theirs if row["kind"] == "train")
    # A run that was killed has not said how far it came: its last row does.
    end = max(last + 1, record["starts"][-1].get("iterations", 0))
    info(f"Reproducing {end - first['first_iteration']} iterations of {folder} in {target}")
    _run(param, first, target, end, effects)
    return _compare(theirs, read_rows(target))


def _run(param, first, target, end, effects, group=None):
    """Repeat a run up to an iteration. group: the processes of several GPUs, which are started if there were such."""
    if group is None:
        group = ranks.start(first["gpu"], _follow, param.SerializeToString(), first, target, end)
        if group is not None:
            with group.guarded():
                return _run(param, first, target, end, effects, group)
    group = group or train.ALONE
    sources: list[caffe_pb2.NetParameter] = []
    engine = engines.choose(first["gpu"], param, first.get("tf32", False), group.rank)
    with ranks.watch_signals(train.check_effects(**effects), group) as watch:
        random = ranks.random_source(group, first["seed"])
        # Rank 0 writes for all.
        edit_net = train.keeping_copies(sources) if group.leads else rehearsal.leave_out_writers
        training = train.build(param, watch.requested, edit_net, engine, random, group)
        training.requested = _until(training, end, watch.requested)
        try:
            if first["snapshot"]:
                info(f"Resuming from {first['snapshot']}")
                training.restore(first["snapshot"])
            origin = Origin(first["solver"], first["snapshot"], sources, first["gpu"])
            train.run(training, Metrics(str(target), training, origin) if group.leads else None)
        finally:
            training.close()


def _follow(group, param, *arguments):
    """Repeat it as rank 0 does."""
    _run(caffe_pb2.SolverParameter.FromString(param), *arguments, _NO_EFFECTS, group)


def _until(training: Solver, end: int, requested: Callable[[], str]) -> Callable[[], str]:
    """Return a function that asks for a stop where the repeated run had ended, before its solver file says so."""
    early = end < training.param.max_iter

    def request() -> str:
        return signals.STOP if early and training.iter >= end else requested()

    return request


def _new_folder(source: Path) -> Path:
    number = 1
    while (source / f"reproduction_{number}").exists():
        number += 1
    return source / f"reproduction_{number}"


def _go_to(folder: str) -> None:
    """Go to the folder that paths in the solver and the nets start from."""
    if os.path.realpath(folder) == os.path.realpath(os.getcwd()):
        return
    if os.path.isdir(folder):
        os.chdir(folder)
        info(f"Working folder: {folder}, as in the run")
    else:
        warning(f"The run's working folder {folder} is not here: relative paths start from {os.getcwd()}")


def differences(start: dict) -> Iterator[str]:
    """Yield what is not as it was when a run was started, a sentence each."""
    now = environment.describe()
    for name, version in start["packages"].items():
        mine = now["packages"].get(name, "not installed")
        if mine != version:
            yield f"{name} was {version} in the run and is {mine} here: numbers may differ in the last digits"
    if start["machine"]["processor"] != now["machine"]["processor"]:
        yield (
            f"The run was on {start['machine']['processor']}, this is {now['machine']['processor']}: numbers may "
            "differ in the last digits"
        )
    if start["commit"] != now["commit"]:
        yield f"caffetools was at commit {start['commit']} in the run and is at {now['commit']} here"
    elif (start["commit"] or "").endswith("+"):
        yield f"caffetools had changes beside commit {start['commit'][:-1]}, then and now: they may not be the same"


def _compare(theirs, mine) -> int:
    """Log how two lists of rows agree in what a run computes; return the exit status."""
    there, here = _numbers(theirs), _numbers(mine)
    missing = [key for key in there if key not in here]
    different = [key for key in there if key in here and there[key] != here[key]]
    steps, tests = (sum(key[0] == kind for key in there) for kind in ("train", "test"))
    if missing:
        error(f"Not reproduced: {_place(missing[0])} is missing, as {len(missing)} of {len(there)} rows are")
    if different:
        key = different[0]
        error(
            f"Not reproduced: {len(different)} of {len(there)} rows differ, the first is {_place(key)}: "
            f"{there[key]} in the run, {here[key]} now"
        )
    if missing or different:
        return 1
    info(f"Reproduced: the losses of {steps} iterations and the outputs of {tests} tests are equal, bit for bit")
    return 0


def _numbers(rows):
    return {(row["kind"], row["iteration"], row.get("net")): (row.get("loss"), row["outputs"]) for row in rows}


def _place(key):
    kind, iteration, net = key
    return f"iteration {iteration}" if kind == "train" else f"the test of net #{net} in iteration {iteration}"
