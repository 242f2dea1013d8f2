"""Training on several GPUs: a process for each of them, of which rank 0 is the one that a user has started."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import SimpleNamespace
from typing import TYPE_CHECKING

from caffetools.engine.cpu.rng import RandomSource
from caffetools.engine.group import Alone
from caffetools.solver import Solver, signals
from caffetools.tools import engines

if TYPE_CHECKING:
    from caffetools.engine.process_group import ProcessGroup
    from caffetools.solver.exchange_cu import GradientExchange


def start(gpu: str, work: Callable[..., object], *arguments: object) -> ProcessGroup | None:
    """Start the other processes where a --gpu names several GPUs, and return their group; None for one or none.

    work: called in them with the group and `arguments`; a function of a module.
    """
    numbers = engines.several(gpu)
    if not numbers:
        return None
    # Only here: it brings multiprocessing along.
    from caffetools.engine import process_group

    return process_group.start([f"GPU {n}" for n in numbers], work, *arguments)


def watch_signals(effects: dict[str, str], group: Alone) -> AbstractContextManager:
    """Return what has `requested` while it is entered; the ranks from 1 on do what rank 0 is asked for."""
    return signals.SignalWatch(effects) if group.leads else nullcontext(SimpleNamespace(requested=lambda: signals.NONE))


def random_source(group: Alone, seed: int = -1) -> RandomSource:
    """Return where a process takes its random numbers from: one seed for all, that of rank 0, and the rank."""
    return RandomSource(group.agree(lambda: RandomSource(seed).seed) + group.rank)


def connect(training: Solver) -> GradientExchange | None:
    """Let the solvers of a group train one net: that of rank 0, by the means of all gradients. None for one alone."""
    if training.group.ranks == 1:
        return None
    from caffetools.solver.exchange_cu import GradientExchange

    param = training.param
    exchange = GradientExchange(training.net, training.group, param.iter_size)
    training.add_callback(exchange.on_start, exchange.on_gradients_ready)
    if param.layer_wise_reduce:
        training.net.gradients_done.append(exchange.gradients_done)
    exchange.broadcast()
    return exchange
