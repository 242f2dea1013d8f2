"""Who wants to know what a solver does: told of every step and of every test, as numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

#: (blob name, value, loss weight) of every element of every output.
Values = list[tuple[str, float, float]]


@dataclass(frozen=True)
class Step:
    """A step that is done.

    iteration: its number, from 0. rate: the learning rate. loss: the mean over the `iter_size` passes; smoothed_loss:
    that over the last `average_loss` steps, as logs show it. outputs: those of the last pass. gradient_norm: the L2
    norm of all gradients, before they were clipped or divided by `iter_size`.
    """

    iteration: int
    rate: float
    loss: float
    smoothed_loss: float
    outputs: Values
    gradient_norm: float


class Listener(Protocol):
    """What is in `Solver.listeners`."""

    def trained(self, step: Step) -> None:
        """A step is done."""

    def tested(self, iteration: int, net: int, means: Values) -> None:
        """A test of test net number `net` is done, before the step of this iteration."""
