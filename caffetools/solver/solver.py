"""The solver: trains a net step by step, tests, displays and takes snapshots.

One step, in the original's order: clear the gradients; test where it is due; forward and backward `iter_size` times;
display; update; answer signals; snapshot.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

import numpy as np

from caffetools.engine.cpu.rng import RandomSource
from caffetools.engine.group import Alone
from caffetools.formats import prototxt
from caffetools.glog import check, check_ge, info
from caffetools.layer import Context
from caffetools.net import Net
from caffetools.proto import caffe_pb2
from caffetools.solver import (
    determinism,
    finite,
    nets,
    precision,
    report,
    scores,
    settings,
    signals,
    snapshot,
)
from caffetools.solver.average import WeightAverage
from caffetools.solver.control import RunControl, undecided
from caffetools.solver.listener import Listener, Step
from caffetools.solver.policies import advance_step, check_policy, learning_rate
from caffetools.solver.retention import Retention
from caffetools.solver.rules import block_table, rule_of
from caffetools.solver.update import HostUpdate

if TYPE_CHECKING:
    from caffetools.engine.gpu.device import Engine
    from caffetools.solver.loss_scale_cu import LossScale

ALONE = Alone()


class Solver:
    """Trains the net of a solver file.

    param: an upgraded SolverParameter. requested: called between steps, returns "none", "stop" or "snapshot".
    group: the processes that train together; rank 0 logs, tests, decides and writes for all, and the others have no
    test nets where they can ask it. random: where a file without `random_seed` takes its random numbers from; the
    system's entropy by default. plan: whether the nets share memory among their blobs (see `Net`), which is not for
    those who look into them. edit_net: called with each net as it was read, to change it. engine: the GPU's, or None
    for the CPU.

    `net` is the net that learns, `test_nets` share its weights; `history` holds the update rule's state as arrays of
    the parameters' shapes, in the order that snapshot files use; `iter` counts finished steps. `listeners` are told of
    each step and each test.
    """

    def __init__(
        self,
        param: caffe_pb2.SolverParameter,
        requested: Callable[[], str] = lambda: signals.NONE,
        group: Alone = ALONE,
        random: RandomSource | None = None,
        plan: bool = False,
        edit_net: nets.Edit = nets.unchanged,
        engine: Engine | None = None,
    ):
        self.param = caffe_pb2.SolverParameter()
        self.param.CopyFrom(param)
        self.requested = requested
        self.group = group
        info(f"Initializing solver from parameters: \n{prototxt.dumps(param).rstrip()}")
        self.rule = rule_of(param)
        check_ge(param.iter_size, 1, "param_.iter_size() >= 1", "iter_size counts the batches of a step.")
        check_ge(param.average_loss, 1, "param_.average_loss() >= 1", "average_loss should be non-negative.")
        writes = param.snapshot or (param.snapshot_prefix and (param.snapshot_after_train or param.time_limit))
        if writes and group.leads:
            # The original tried only where `snapshot` is set, and lost a finished run where the last one failed.
            snapshot.check_prefix(param)
        if param.deterministic:
            determinism.fix_seeds(self.param)
        seed = self.param.random_seed
        self.random = RandomSource(seed + group.rank) if seed >= 0 else random or RandomSource()
        self._loss_scaling = precision.prepare(param, engine)
        scores.check_evaluation(param)
        context = Context(
            random=self.random, rank=group.rank, ranks=group.ranks, passes=param.iter_size, engine=engine
        )
        self.net: Net = nets.train_net(param, context, plan, edit_net)
        tests = nets.test_nets(param, context, plan, edit_net) if group.leads or not group.can_ask else []
        self.test_nets: list[Net] = tests
        self.iter = 0
        self.current_step = 0
        self.rate = np.float32(0)  # of the last update
        self.gradient_norm = 0.0  # of the last update that needed it, over all parameters, as clip_gradients sees it
        self.losses: deque[float] = deque(maxlen=param.average_loss)
        self._losses_resumed = False
        self._watch = finite.LossWatch(self.net, self.param)
        self.callbacks: list[tuple[Callable[[], None], Callable[[], None]]] = []
        self.listeners: list[Listener] = []
        self._update = self._make_update()
        self.control = RunControl(param if group.leads else undecided(param), self.test_nets)
        self.retention = Retention(param.snapshot_keep)
        self.average = WeightAverage(self.net, param.ema_decay, self._blocks) if param.ema_decay else None
        self._stopping = False
        self._moment: dict | None = None  # where the run was before the tests of the present iteration
        info("Solver scaffolding done.")

    def _make_update(self):
        net, param, dtype = self.net, self.param, self.net.context.dtype
        self._blocks = block_table(net.param_offsets.tolist(), [blob.count for blob in net.params])
        rate_mults = np.array(net.lr_mults, dtype)
        decays = np.array([param.weight_decay * m for m in net.decay_mults], dtype)
        tables = self._blocks, rate_mults, decays
        if net.context.engine is None:
            return HostUpdate(net, self.rule, param, *tables)
        from caffetools.solver.update_cu import DeviceUpdate

        return DeviceUpdate(net, self.rule, *tables, param.clip_gradients, param.iter_size, self._loss_scaling)

    @property
    def history(self) -> list[np.ndarray]:
        """The state of the update rule, on the host: arrays of the parameters' shapes, which may be written into."""
        return [
            row[start : start + blob.count].reshape(blob.shape)
            for row in self._update.history()
            for blob, start in zip(self.net.params, self.net.param_offsets, strict=True)
        ]

    @property
    def loss_scale(self) -> LossScale | None:
        """What scales the loss in half precision, None in float32."""
        return self._update.loss_scale

    @property
    def smoothed_loss(self) -> float:
        """The mean of the last `average_loss` losses."""
        return float(sum(self.losses) / len(self.losses)) if self.losses else 0.0

    def add_callback(self, on_start: Callable[[], None], on_gradients_ready: Callable[[], None]) -> None:
        """Have functions called before the forward passes and after the backward passes of each step."""
        self.callbacks.append((on_start, on_gradients_ready))

    def resume_losses(self, losses: Sequence[float]) -> None:
        """Take over the window of losses of the run that is continued."""
        self.losses.extend(losses)
        self._losses_resumed = True

    def restore(self, path: str) -> None:
        """Continue from a snapshot: a `.solverstate` or `.solverstate.h5` file."""
        snapshot.restore(self, path)
        self._watch.go_on_from(path)
        self._moment = None

    def snapshot(self, alone: bool = False) -> None:
        """Write a snapshot of the present iteration; all processes of a group call this together.

        alone: only rank 0 does, and does not learn where the others are: who resumes begins with the data anew.
        """
        self._watch.check(lag=0)
        if alone:
            check(self.group.leads, "Caffe::root_solver()", "The process of rank 0 takes the snapshots.")
        stem = snapshot.stem_of(self)
        self._watch.last_snapshot = snapshot.state_of(self, stem)
        if not self.group.leads:
            self.moment()
            return
        before = self._moment
        if alone and before is None:
            self._moment = snapshot.moment(self)
        self.retention.add(stem)
        snapshot.write(self, stem)
        self._moment = before
        self.retention.prune()

    def moment(self) -> dict:
        """Return where the run is, beside its weights and history; during tests: where it was before them.

        All processes of a group call this together, but not during tests; rank 0 learns where the others are.
        """
        return snapshot.moments(self) if self._moment is None else self._moment

    def solve(self, resume_file: str | None = None) -> None:
        """Train until `max_iter`, with the tests, displays and snapshots that the solver file asks for."""
        info(f"Solving {self.net.name}")
        info(f"Learning Rate Policy: {self.param.lr_policy}")
        check_policy(self.param)
        if resume_file:
            info(f"Restoring previous solver status from {resume_file}")
            self.restore(resume_file)
        if self.group.leads:
            settings.warn(self)
        self._stopping = False
        param = self.param
        self.step(param.max_iter - self.iter)
        self._watch.check(lag=0)
        timed_out = self.group.agree(lambda: self.control.timed_out, False)
        last = param.snapshot_after_train or (timed_out and param.snapshot_prefix)
        if last and (not param.snapshot or self.iter % param.snapshot):
            self.snapshot()
        if self._stopping:
            info("Optimization stopped early.")
            return
        self._moment = self.moment()  # before the pass for the display, which takes a batch
        if param.display and self.iter % param.display == 0:
            self.losses.append(self.net.forward())
            info(f"Iteration {self.iter}, loss = {self.smoothed_loss:g}")
        if param.test_interval and self.iter % param.test_interval == 0:
            self.test_all()
        info("Optimization Done.")

    def step(self, iterations: int) -> None:
        """Train for a number of iterations, or until a stop is requested."""
        param = self.param
        check_policy(param)
        end = self.iter + iterations
        if not self._losses_resumed:
            # The window starts anew at each call, as in the original.
            self.losses.clear()
        self._losses_resumed = False
        self._moment = None
        if self.average is not None:
            self.average.start()
        display_line = report.DisplayLine(self.iter, (self.net, *self.test_nets))
        progress = report.Progress(self.iter, end if self.group.leads else self.iter)
        try:
            while self.iter < end and not self._stopping:
                self._one_step(display_line)
                progress.update(self.iter, self.losses[-1] if self.losses else 0.0)
        finally:
            progress.close()

    def _one_step(self, display_line):
        param, net = self.param, self.net
        if (
            param.test_interval
            and self.iter % param.test_interval == 0
            and (self.iter or param.test_initialization)
        ):
            net.clear_param_diffs()
            self.test_all()
            if self._stopping:
                return
            self._moment = None
        if self.callbacks:
            net.clear_param_diffs()
        else:
            net.begin_param_diffs()
        for on_start, _ in self.callbacks:
            on_start()
        display = self._is_displayed()
        net.debug_info = display and param.debug_info
        loss = 0.0
        for _ in range(param.iter_size):
            loss += net.forward()
            self._watch.add(self.iter, loss)
            self._watch.check(self._update.lag)
            self._update.backward()
        self.losses.append(loss / param.iter_size)
        if display:
            display_line.show(self.iter, param.display, self.smoothed_loss)
            report.output_lines("Train", net.output_values())
        for _, on_gradients_ready in self.callbacks:
            on_gradients_ready()
        self.apply_update()
        if self.average is not None:
            self.average.update(self.iter)
        self._tell_step(loss / param.iter_size)
        self.iter += 1
        here = signals.NONE, self._stopping, self.current_step
        request, self._stopping, self.current_step = self.group.agree(
            lambda: self._decide(loss / param.iter_size), here
        )
        if (param.snapshot and self.iter % param.snapshot == 0) or request == signals.SNAPSHOT:
            self.snapshot()

    def _tell_step(self, loss):
        if not self.listeners:
            return
        values = self.net.output_values()
        step = Step(self.iter, self.rate, float(loss), self.smoothed_loss, values, self.gradient_norm)
        for listener in self.listeners:
            listener.trained(step)

    def _is_displayed(self):
        """Say whether the log tells of the present iteration; its losses have to arrive for that."""
        return self.group.leads and bool(self.param.display) and self.iter % self.param.display == 0

    def _decide(self, loss):
        """Return what follows for all processes from a step that is done: the request, whether to stop, the rate."""
        self._reduce_rate(self.control.trained(loss, self.iter))
        return self._poll(), self._stopping, self.current_step

    def _poll(self):
        """Return what is requested; a stop is remembered."""
        request = self.requested()
        if request == signals.NONE and self.control.out_of_time():
            request = signals.STOP
        if request == signals.STOP:
            self._stopping = True
        return request

    def learning_rate(self) -> np.float32:
        """Return the rate of the present iteration; moves `current_step`."""
        self.current_step = advance_step(self.param, self.iter, self.current_step)
        return learning_rate(self.param, self.iter, self.current_step)

    def apply_update(self) -> None:
        """Turn the gradients into a step and take it; the diffs hold the step afterwards."""
        param = self.param
        rate = self.rate = self.learning_rate()
        display = self._is_displayed()
        if display:
            info(f"Iteration {self.iter}, lr = {rate:g}")
        norm_wanted = bool(self.listeners) or (display and param.log_gradient_norm)
        if param.clip_gradients >= 0 or norm_wanted:
            self._update.measure(norm_wanted)
            self.gradient_norm = self._update.gradient_norm
        if display and param.log_gradient_norm:
            info(f"Iteration {self.iter}, gradient norm = {self.gradient_norm:g}")
        hyper, l1 = self.rule.hyper(param, self.iter), param.regularization_type == "L1"
        self._update.apply(rate, l1, param.decoupled_decay, hyper)

    def _reduce_rate(self, why):
        """Take a step of lr_policy plateau where there is a reason."""
        if not why:
            return
        before, after = (learning_rate(self.param, self.iter, self.current_step + i) for i in (0, 1))
        if after < before:
            self.current_step += 1
            info(f"Plateau: {why}: lr {before:g} -> {after:g}")

    def test_all(self) -> None:
        """Test every test net; a stop requested meanwhile ends the tests. Rank 0 tests for all."""
        if self._moment is None:
            self._moment = self.moment()
        here = self._stopping, self.current_step
        self._stopping, self.current_step = self.group.agree(self._test_and_judge, here)

    def _test_and_judge(self):
        results = []
        for i in range(len(self.test_nets)):
            if not self._stopping:
                results.append(self.test(i))
        if results and not self._stopping:
            self._judge(results)
        return self._stopping, self.current_step

    def _judge(self, results):
        """Do what follows from the results of all test nets."""
        outcome = self.control.tested(results, self.iter)
        if outcome.best:
            info(f"Best so far: {outcome.best}")
            snapshot.write(self, f"{self.param.snapshot_prefix}_best")
        self._reduce_rate(outcome.reduce)
        if outcome.stop:
            info(f"Stopping early: {outcome.stop}")
            self._stopping = True

    def test(self, index: int = 0) -> list[tuple[str, float, float]] | None:
        """Run one test net for its `test_iter` batches and log the means of its outputs.

        Returns (blob name, mean, loss weight) of each element of each output; None where a stop came between.
        """
        info(f"Iteration {self.iter}, Testing net (#{index})")
        self.test_nets[index].share_weights_from(self.net)
        averaged = self.average is not None and self.param.ema_test
        with self.average.shown(True) if averaged else nullcontext():
            loss, means = scores.measure(
                self.test_nets[index], self.param.test_iter[index], self.param, self._goes_on
            )
        if self._stopping:
            info("Test interrupted.")
            return None
        if self.param.test_compute_loss:
            info(f"Test loss: {loss:g}")
        report.output_lines("Test", means)
        for listener in self.listeners:
            listener.tested(self.iter, index, means)
        return means

    def _goes_on(self):
        """Answer what is requested between two batches of a test; return whether the test goes on."""
        while (request := self._poll()) == signals.SNAPSHOT:
            self.snapshot()
        return request != signals.STOP

    def close(self) -> None:
        """Stop the nets' threads and close their files."""
        for net in (self.net, *self.test_nets):
            net.close()
