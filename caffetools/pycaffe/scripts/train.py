"""train_net: train from Python, so that layers written in Python can take part and be timed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffetools.glog import fatal
from caffetools.pycaffe import mode
from caffetools.pycaffe.logging import log
from caffetools.pycaffe.solver import Solver, get_solver
from caffetools.pycaffe.timer import Timer
from caffetools.solver import signals
from caffetools.tools import engines, ranks

if TYPE_CHECKING:
    from caffetools.engine.process_group import ProcessGroup


def train(
    solver: str,
    snapshot: str = "",
    gpus: Sequence[str] = (),
    timing: bool = False,
    group: ProcessGroup | None = None,
) -> Solver:
    """Train as the solver file says, to the end or to a signal (Ctrl-C), and return the solver.

    solver: the solver file. snapshot: a solverstate to continue from. gpus: device ids, refused where there is no GPU;
    the CPU without them. timing: log the times of the layers at each display. group: the processes of several GPUs;
    without it, this one starts the others.
    """
    if not solver:
        fatal("--solver is needed: give it a solver file")
    if group is None:
        group = ranks.start(",".join(gpus), _follow, solver, snapshot, tuple(gpus))
        if group is not None:
            with group.guarded():
                return train(solver, snapshot, gpus, timing, group)
    if gpus:
        numbers = engines.parse(",".join(gpus))
        mode.set_device(numbers[0 if group is None else group.rank])
        mode.set_mode_gpu()
    training = get_solver(solver, group)
    if timing:
        time_layers(training)
    effects = {"SIGINT": signals.STOP, "SIGHUP": signals.SNAPSHOT, "SIGTERM": signals.STOP}
    engine = training._solver
    with ranks.watch_signals(effects, engine.group) as watch:
        engine.requested = watch.requested
        exchange = ranks.connect(engine)
        training.solve(snapshot or None)
        if exchange is not None:
            exchange.close()
    return training


def _follow(group, solver, snapshot, gpus):
    """Train as rank 0 does."""
    train(solver, snapshot, gpus, group=group)


def time_layers(solver: Solver) -> None:
    """Have a solver log, at each display, how many milliseconds each layer and the whole step took."""
    net, names = solver.net, solver.net._layer_names
    forward, backward = ([Timer() for _ in names] for _ in range(2))
    total = Timer()
    net.before_forward(lambda i: forward[i].start())
    net.after_forward(lambda i: forward[i].stop())
    net.before_backward(lambda i: backward[i].start())
    net.after_backward(lambda i: backward[i].stop())

    def show() -> None:
        total.stop()
        if solver.param.display and solver.iter % solver.param.display == 0:
            lines = ["", *(f"forw {i:3d} {name:>8} : {forward[i].ms:.2f}" for i, name in enumerate(names))]
            lines += [
                f"back {i:3d} {names[i]:>8} : {backward[i].ms:.2f}" for i in reversed(range(len(names)))
            ]
            log("\n".join([*lines, f"solver total: {total.ms:.2f}"]))

    solver.add_callback(total.start, show)
