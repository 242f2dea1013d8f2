"""`caffe train`: train a net from a solver file, from scratch, from weights or from a snapshot."""

from __future__ import annotations

from caffetools import upgrade
from caffetools.glog import check, check_gt, info
from caffetools.solver import Solver, report, signals
from caffetools.tools import engines


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
) -> Solver:
    """Train the net of the solver file `solver` and return its solver.

    weights: comma list of files to start from. snapshot: a solverstate to resume. level, stage (a comma list): the
    state of the training net. The effects say what the signals do: stop, snapshot or none.
    """
    check_gt(len(solver), 0, "FLAGS_solver.size() > 0", "Need a solver definition to train.")
    check(
        not snapshot or not weights,
        "!FLAGS_snapshot.size() || !FLAGS_weights.size()",
        "Give a snapshot to resume training or weights to finetune but not both.",
    )
    effects = {
        "SIGINT": signals.check_effect(sigint_effect, "sigint_effect"),
        "SIGHUP": signals.check_effect(sighup_effect, "sighup_effect"),
        "SIGTERM": signals.check_effect(sigterm_effect, "sigterm_effect"),
    }
    param = upgrade.read_solver(solver)
    # The command line's level replaces the file's, its stages are added: an empty --stage adds the stage "".
    param.train_state.level = level
    param.train_state.stage.extend(stage.split(","))
    engines.choose(gpu, param)
    if snapshot or weights:
        del param.weights[:]
    if weights:
        param.weights.append(weights)
    with signals.SignalWatch(effects) as watch:
        training = Solver(param, watch.requested)
        try:
            if snapshot:
                info(f"Resuming from {snapshot}")
                training.restore(snapshot)
            nets = (training.net, *training.test_nets)
            report.memory_note(net.memory() for net in nets)
            info("Starting Optimization")
            wait = report.DataWait(nets)
            training.solve()
            wait.note()
            info("Optimization Done.")
        finally:
            training.close()
    return training
