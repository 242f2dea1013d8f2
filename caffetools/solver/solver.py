"""The solver: trains a net step by step, tests, displays and takes snapshots.

One step, in the original's order: clear the gradients; test where it is due; forward and backward `iter_size` times;
display; update; answer signals; snapshot.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from math import isfinite

import numpy as np

from caffetools.engine.cpu.rng import RandomSource
from caffetools.formats import prototxt
from caffetools.glog import check_ge, fatal, info
from caffetools.layer import Context
from caffetools.net import Net
from caffetools.proto import caffe_pb2
from caffetools.solver import finite, nets, report, signals, snapshot
from caffetools.solver.names import check_known
from caffetools.solver.policies import advance_step, check_policy, learning_rate
from caffetools.solver.rules import RULES, block_table, squares_of_blocks

REGULARIZATIONS = ("L1", "L2")


class Solver:
    """Trains the net of a solver file.

    param: an upgraded SolverParameter. requested: called between steps, returns "none", "stop" or "snapshot".
    rank, ranks: this process among those that train together. random: where a file without `random_seed` takes its
    random numbers from; the system's entropy by default.

    `net` is the net that learns, `test_nets` share its weights; `history` holds the update rule's state as arrays of
    the parameters' shapes, in the order that snapshot files use; `iter` counts finished steps.
    """

    def __init__(
        self,
        param: caffe_pb2.SolverParameter,
        requested: Callable[[], str] = lambda: signals.NONE,
        rank: int = 0,
        ranks: int = 1,
        random: RandomSource | None = None,
    ):
        self.param = caffe_pb2.SolverParameter()
        self.param.CopyFrom(param)
        self.requested = requested
        info(f"Initializing solver from parameters: \n{prototxt.dumps(param).rstrip()}")
        self.rule = _rule(param)
        check_ge(param.iter_size, 1, "param_.iter_size() >= 1", "iter_size counts the batches of a step.")
        check_ge(param.average_loss, 1, "param_.average_loss() >= 1", "average_loss should be non-negative.")
        if param.snapshot or (param.snapshot_after_train and param.snapshot_prefix):
            # The original tried only where `snapshot` is set, and lost a finished run where the last one failed.
            snapshot.check_prefix(param)
        seeded = param.random_seed >= 0
        self.random = RandomSource(param.random_seed + rank) if seeded else random or RandomSource()
        context = Context(random=self.random, rank=rank, ranks=ranks)
        self.net: Net = nets.train_net(param, context)
        self.test_nets: list[Net] = nets.test_nets(param, context)
        self.iter = 0
        self.current_step = 0
        self.losses: deque[float] = deque(maxlen=param.average_loss)
        self._losses_resumed = False
        self.callbacks: list[tuple[Callable[[], None], Callable[[], None]]] = []
        self._make_history()
        self._stopping = False
        self._last_snapshot = ""
        info("Solver scaffolding done.")

    def _make_history(self):
        net, dtype = self.net, self.net.context.dtype
        self._history = np.zeros((self.rule.histories, net.param_data.size), dtype)
        self.history: list[np.ndarray] = [
            row[start : start + blob.count].reshape(blob.shape)
            for row in self._history
            for blob, start in zip(net.params, net.param_offsets, strict=True)
        ]
        self._blocks = block_table(net.param_offsets.tolist(), [blob.count for blob in net.params])
        self._squares = np.zeros(len(self._blocks))
        self._decays = np.array([self.param.weight_decay * m for m in net.decay_mults], dtype)
        self._rate_mults = np.array(net.lr_mults, dtype)

    @property
    def smoothed_loss(self) -> float:
        """The mean of the last `average_loss` losses."""
        return sum(self.losses) / len(self.losses) if self.losses else 0.0

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
        self._last_snapshot = path

    def snapshot(self) -> None:
        """Write a snapshot of the present iteration."""
        self._last_snapshot = snapshot.write(self)

    def solve(self, resume_file: str | None = None) -> None:
        """Train until `max_iter`, with the tests, displays and snapshots that the solver file asks for."""
        info(f"Solving {self.net.name}")
        info(f"Learning Rate Policy: {self.param.lr_policy}")
        check_policy(self.param)
        if resume_file:
            info(f"Restoring previous solver status from {resume_file}")
            self.restore(resume_file)
        self._stopping = False
        param = self.param
        self.step(param.max_iter - self.iter)
        if param.snapshot_after_train and (not param.snapshot or self.iter % param.snapshot):
            self.snapshot()
        if self._stopping:
            info("Optimization stopped early.")
            return
        if param.display and self.iter % param.display == 0:
            self._note_loss(self.net.forward())
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
        display_line = report.DisplayLine(self.iter, (self.net, *self.test_nets))
        progress = report.Progress(self.iter, end)
        try:
            while self.iter < end and not self._stopping:
                self._one_step(display_line)
                progress.update(self.iter, self.losses[-1] if self.losses else 0.0)
        finally:
            progress.close()

    def _one_step(self, display_line):
        param, net = self.param, self.net
        net.clear_param_diffs()
        if (
            param.test_interval
            and self.iter % param.test_interval == 0
            and (self.iter or param.test_initialization)
        ):
            self.test_all()
            if self._stopping:
                return
        for on_start, _ in self.callbacks:
            on_start()
        display = bool(param.display) and self.iter % param.display == 0
        net.debug_info = display and param.debug_info
        loss = 0.0
        for _ in range(param.iter_size):
            loss += net.forward()
            if param.stop_on_nan and not isfinite(loss):
                self._refuse_loss(loss)
            net.backward()
        self._note_loss(loss / param.iter_size)
        if display:
            display_line.show(self.iter, param.display, self.smoothed_loss)
            report.output_lines("Train", net.output_values())
        for _, on_gradients_ready in self.callbacks:
            on_gradients_ready()
        self.apply_update()
        self.iter += 1
        request = self._poll()
        if (param.snapshot and self.iter % param.snapshot == 0) or request == signals.SNAPSHOT:
            self.snapshot()

    def _refuse_loss(self, loss):
        last = f"The last snapshot, {self._last_snapshot}, is untouched. " if self._last_snapshot else ""
        fatal(
            f"Iteration {self.iter}: the loss is {loss:g}. The first that is not finite is "
            f"{finite.first_culprit(self.net)}. {last}"
            "A lower base_lr or clip_gradients often helps; stop_on_nan: false in the solver file trains on."
        )

    def _note_loss(self, loss):
        self.losses.append(loss)

    def _poll(self):
        """Return what is requested; a stop is remembered."""
        request = self.requested()
        if request == signals.STOP:
            self._stopping = True
        return request

    def learning_rate(self) -> np.float32:
        """Return the rate of the present iteration; moves `current_step`."""
        self.current_step = advance_step(self.param, self.iter, self.current_step)
        return learning_rate(self.param, self.iter, self.current_step)

    def apply_update(self) -> None:
        """Turn the gradients into a step and take it; the diffs hold the step afterwards."""
        param, net = self.param, self.net
        dtype = net.context.dtype.type
        rate = self.learning_rate()
        if param.display and self.iter % param.display == 0:
            info(f"Iteration {self.iter}, lr = {rate:g}")
        scale = self._clip_scale() / param.iter_size
        self.rule.kernel(
            net.param_data,
            net.param_diff,
            self._history,
            self._blocks,
            dtype(scale),
            self._rate_mults * dtype(rate),
            self._decays,
            param.regularization_type == "L1",
            np.array(self.rule.hyper(param, self.iter), net.context.dtype),
        )

    def _clip_scale(self):
        limit = self.param.clip_gradients
        if limit < 0:
            return 1.0
        squares_of_blocks(self.net.param_diff, self._blocks, self._squares)
        norm = float(np.sqrt(self._squares.sum()))
        if norm <= limit:
            return 1.0
        scale = limit / norm
        info(
            f"Gradient clipping: scaling down gradients (L2 norm {norm:g} > {limit:g}) by scale factor {scale:g}"
        )
        return scale

    def test_all(self) -> None:
        """Test every test net; a stop requested meanwhile ends the tests."""
        for i in range(len(self.test_nets)):
            if self._stopping:
                return
            self.test(i)

    def test(self, index: int = 0) -> None:
        """Run one test net for its `test_iter` batches and log the means of its outputs."""
        info(f"Iteration {self.iter}, Testing net (#{index})")
        net = self.test_nets[index]
        net.share_weights_from(self.net)
        batches = self.param.test_iter[index]
        loss = 0.0
        sums: list[float] | None = None
        for _ in range(batches):
            while (request := self._poll()) == signals.SNAPSHOT:
                self.snapshot()
            if request == signals.STOP:
                break
            loss += net.forward()
            values = net.output_values()
            sums = (
                [value for _, value, _ in values]
                if sums is None
                else [total + value for total, (_, value, _) in zip(sums, values, strict=True)]
            )
        if self._stopping:
            info("Test interrupted.")
            return
        if self.param.test_compute_loss:
            info(f"Test loss: {loss / batches:g}")
        if sums is not None:
            means = [
                (name, total / batches, weight) for total, (name, _, weight) in zip(sums, values, strict=True)
            ]
            report.output_lines("Test", means)

    def close(self) -> None:
        """Stop the nets' threads and close their files."""
        for net in (self.net, *self.test_nets):
            net.close()


def _rule(param):
    check_known("solver type", param.type, RULES, "types")
    check_known("regularization type", param.regularization_type, REGULARIZATIONS, "types")
    rule = RULES[param.type]
    rule.check(param)
    return rule
