"""What a run decides from how it goes: which snapshot is the best, when to stop early, when to lower the rate.

Everything here is off unless the solver file asks for it. The state of all of it goes into the side file of snapshots,
so that a run in two halves decides as a run in one go.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from caffetools.glog import check, fatal, info
from caffetools.net import Net
from caffetools.proto import caffe_pb2
from caffetools.solver import duration
from caffetools.solver.outputs import Progress, Results, Target, find_target


@dataclass(frozen=True)
class Outcome:
    """What follows from a test. A text says why; an empty one, that it does not follow."""

    best: str = ""
    stop: str = ""
    reduce: str = ""


class Watched:
    """An output that is followed from test to test. patience: tests in a row without an improvement that it takes."""

    def __init__(self, target: Target, min_delta: float = 0.0, patience: int = 0):
        self.target = target
        self.patience = patience
        self.progress = Progress(target.rises, min_delta)

    def observe(self, results: Results, iteration: int) -> bool:
        """Take the results of a test; return whether this output is the best so far."""
        return self.progress.observe(self.target.value(results), iteration)

    @property
    def stalled(self) -> bool:
        """Whether patience has run out."""
        return self.progress.stalled >= self.patience

    @property
    def text(self) -> str:
        """For how long it has not improved."""
        return f"{self.target.text} has not improved in {_times(self.progress.stalled)} ({self.progress.text})"


class RunControl:
    """Follows one run. param: its solver file. nets: its test nets.

    Errors: FatalError for outputs that there are not, and for settings that contradict each other.
    """

    def __init__(self, param: caffe_pb2.SolverParameter, nets: Sequence[Net]):
        _check(param)
        self.param = param
        # By the name of the setting; a setting that is not used is not there.
        self.watched: dict[str, Watched] = {}
        if param.snapshot_best:
            self._watch("snapshot_best", param.snapshot_best, nets)
        if param.early_stop:
            self._watch("early_stop", param.early_stop, nets, param.min_delta, param.early_stop_patience)
        self.loss: Progress | None = None
        self._window: list[float] = []
        if param.lr_policy == "plateau":
            if param.plateau_output:
                self._watch("plateau_output", param.plateau_output, nets, param.min_delta, param.plateau_patience)
            else:
                self.loss = Progress(rises=False, min_delta=param.min_delta)
        self.timed_out = False
        self._end = time.monotonic() + duration.parse(param.time_limit, "time_limit") if param.time_limit else None

    def _watch(self, field, spec, nets, min_delta=0.0, patience=0):
        self.watched[field] = Watched(find_target(spec, field, nets), min_delta, patience)

    def tested(self, results: Results, iteration: int) -> Outcome:
        """Take the results of all test nets and say what follows."""
        better = {field: watched.observe(results, iteration) for field, watched in self.watched.items()}
        best = stop = reduce = ""
        if better.get("snapshot_best"):
            watched = self.watched["snapshot_best"]
            best = f"{watched.target.text} = {watched.progress.best:g}"
        watched = self.watched.get("early_stop")
        if watched and watched.stalled:
            stop = watched.text
        watched = self.watched.get("plateau_output")
        if watched and watched.stalled:
            reduce = watched.text
            watched.progress.stalled = 0
        return Outcome(best, stop, reduce)

    def trained(self, loss: float, iteration: int) -> str:
        """Take the loss of an iteration that is done; return why the rate is to fall, or nothing."""
        if self.loss is None:
            return ""
        self._window.append(loss)
        interval = self.param.plateau_interval or self.param.test_interval
        if len(self._window) < interval:
            return ""
        self.loss.observe(float(sum(self._window) / interval), iteration)
        self._window.clear()
        if self.loss.stalled < self.param.plateau_patience:
            return ""
        stalled = self.loss.stalled
        self.loss.stalled = 0
        return f"the loss has not improved in {stalled} x {interval} iterations ({self.loss.text})"

    def out_of_time(self) -> bool:
        """Say whether the run has reached its time limit; the first time with a line in the log."""
        if self._end is None or time.monotonic() < self._end:
            return False
        if not self.timed_out:
            info(f"The time limit of {self.param.time_limit} is reached")
            self.timed_out = True
        return True

    def get_state(self) -> dict:
        """Return what a resumed run needs, as JSON values."""
        state: dict = {
            field: {"output": getattr(self.param, field), **watched.progress.get_state()}
            for field, watched in self.watched.items()
        }
        if self.loss is not None:
            state["loss"] = {"window": [float(loss) for loss in self._window], **self.loss.get_state()}
        return state

    def set_state(self, state: dict) -> None:
        """Take over what `get_state` returned; what is about another output than now begins anew."""
        for field, watched in self.watched.items():
            mine = state.get(field)
            if mine is not None and mine["output"] == getattr(self.param, field):
                watched.progress.set_state(mine)
        mine = state.get("loss")
        if self.loss is not None and mine is not None:
            self._window = [float(loss) for loss in mine["window"]]
            self.loss.set_state(mine)


def undecided(param: caffe_pb2.SolverParameter) -> caffe_pb2.SolverParameter:
    """Return a copy of a solver file for a process that leaves all of these decisions to another."""
    result = caffe_pb2.SolverParameter()
    result.CopyFrom(param)
    for name in ("snapshot_best", "early_stop", "time_limit", "plateau_output"):
        result.ClearField(name)
    if param.lr_policy == "plateau":
        # It has to be told when to look, and never does.
        result.plateau_interval = 1
    return result


def _times(count):
    return f"{count} test{'s' * (count != 1)}"


def _check(param):
    """Refuse settings that cannot be honoured."""
    words = "counts observations in a row without an improvement"
    for name in ("early_stop_patience", "plateau_patience"):
        check(getattr(param, name) > 0, f"{name} > 0", f"{name} {words}.")
    for name in ("snapshot_keep", "warmup_iter", "plateau_interval", "min_delta"):
        check(getattr(param, name) >= 0, f"{name} >= 0", f"{name} cannot be negative.")
    check(0 <= param.ema_decay < 1, "0 <= ema_decay < 1", f"ema_decay is {param.ema_decay:g}; 0.999 is a usual value.")
    if param.snapshot_best and not param.snapshot_prefix:
        fatal("snapshot_best needs a snapshot_prefix: the best snapshot is PREFIX_best.caffemodel")
    if param.decoupled_decay and param.regularization_type != "L2":
        fatal(f"decoupled_decay goes with regularization_type L2, not {param.regularization_type}")
    plateau = param.lr_policy == "plateau"
    if plateau and not (param.plateau_output or param.plateau_interval or param.test_interval):
        fatal(
            "lr_policy plateau needs to know when to look: set plateau_interval (iterations whose mean loss counts), "
            "test_interval, or plateau_output (a test output)"
        )
    if not plateau and (param.plateau_output or param.HasField("plateau_interval")):
        fatal(f'plateau_output and plateau_interval belong to lr_policy "plateau", not "{param.lr_policy}"')
