"""Solvers as scripts see them."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Protocol

from caffetools import solver as engine
from caffetools import upgrade
from caffetools.engine.cpu.rng import RandomSource
from caffetools.engine.group import Alone
from caffetools.proto import caffe_pb2
from caffetools.pycaffe import mode
from caffetools.pycaffe.mode import random_source
from caffetools.pycaffe.net import Net, Path
from caffetools.pycaffe.parallel import ranks
from caffetools.solver import nets
from caffetools.tools import ranks as group_ranks
from caffetools.tools import rehearsal


class Callback(Protocol):
    """What wants to know of each iteration of a solver, such as NCCL."""

    on_start: Callable[[], None]
    on_gradients_ready: Callable[[], None]


class Solver:
    """Trains the net of a solver file, with the update rule of its class, whatever `type` the file has.

    net: the net that learns. test_nets: those that are tested; they have its weights after a test.
    """

    type: str | None = None

    def __init__(self, solver_file: Path):
        self._build(upgrade.read_solver(solver_file))

    def _build(self, param, group=None):
        if self.type is not None:
            param.type = self.type
        random = random_source()
        if group is None:
            group = Alone(*ranks())
            if group.rank:
                count, random = random.count, RandomSource(random.seed + group.rank)
                random.count = count
        else:
            random = group_ranks.random_source(group, random.seed)
        # Rank 0 writes for all.
        edit = nets.unchanged if group.leads else rehearsal.leave_out_writers
        self._solver = engine.Solver(param, group=group, random=random, edit_net=edit, engine=mode.engine())
        self.net = Net.of(self._solver.net)
        self.test_nets = [Net.of(net) for net in self._solver.test_nets]

    @property
    def iter(self) -> int:
        """The number of finished iterations."""
        return self._solver.iter

    @property
    def lr(self) -> float:
        """The learning rate of the present iteration."""
        return float(self._solver.learning_rate())

    @property
    def param(self) -> caffe_pb2.SolverParameter:
        """The settings. A change of base_lr, and of other settings of a step, holds from the next one on."""
        return self._solver.param

    def solve(self, resume_file: Path | None = None) -> None:
        """Train until max_iter, with the file's tests, displays and snapshots; from a snapshot, if given."""
        self._solver.solve(None if resume_file is None else os.fspath(resume_file))

    def step(self, iterations: int) -> None:
        """Train for a number of iterations."""
        self._solver.step(iterations)

    def restore(self, file: Path) -> None:
        """Continue from a snapshot, a .solverstate or .solverstate.h5 file; all processes that an NCCL connects do."""
        self._solver.restore(os.fspath(file))

    def snapshot(self) -> None:
        """Write a snapshot of the present iteration. Errors: FatalError at other ranks than 0."""
        self._solver.snapshot(alone=self._solver.group.ranks > 1)

    def share_weights(self, net: Net) -> None:
        """Let another net use the weights of the net that learns."""
        net._net.share_weights_from(self._solver.net)

    def apply_update(self) -> None:
        """Turn the gradients that the net holds into a step of the weights."""
        self._solver.apply_update()

    def add_callback(
        self, on_start: Callable[[], None] | Callback, on_gradients_ready: Callable[[], None] | None = None
    ) -> None:
        """Have functions called before the forward passes and after the backward passes of each iteration.

        An NCCL stands for both.
        """
        if on_gradients_ready is None:
            on_start, on_gradients_ready = on_start.on_start, on_start.on_gradients_ready
        self._solver.add_callback(on_start, on_gradients_ready)


class SGDSolver(Solver):
    type = "SGD"


class NesterovSolver(Solver):
    type = "Nesterov"


class AdaGradSolver(Solver):
    type = "AdaGrad"


class RMSPropSolver(Solver):
    type = "RMSProp"


class AdaDeltaSolver(Solver):
    type = "AdaDelta"


class AdamSolver(Solver):
    type = "Adam"


SOLVERS = {solver.type: solver for solver in Solver.__subclasses__()}


def get_solver(solver_file: Path, group: Alone | None = None) -> Solver:
    """Return a solver of the type that a solver file names.

    group: the processes that train together, where they know each other already.
    """
    param = upgrade.read_solver(solver_file)
    kind = SOLVERS.get(param.type, Solver)  # which refuses a type that no class has
    solver = kind.__new__(kind)
    solver._build(param, group)
    return solver
