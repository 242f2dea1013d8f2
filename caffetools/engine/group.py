"""The group of processes that train together, for who only asks it; `process_group` makes one of several."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from caffetools.glog import FatalError

Value = TypeVar("Value")


class LostPeer(FatalError):
    """The processes of a group cannot reach each other any longer: a consequence, not a cause."""


class Alone:
    """What a group is for a process that has no others, or does not know them.

    rank, ranks: this process among those that train together. can_ask: whether it can reach them.
    """

    can_ask = False

    def __init__(self, rank: int = 0, ranks: int = 1):
        self.rank, self.ranks = rank, ranks

    @property
    def leads(self) -> bool:
        """Whether this process logs, tests and takes snapshots."""
        return self.rank == 0

    def agree(self, decide: Callable[[], Value], otherwise: Value | None = None) -> Value:
        """Return what rank 0 decides; `otherwise` for other ranks, which cannot ask it."""
        return decide() if self.leads else otherwise

    def gather(self, value: Value) -> list[Value]:
        """Return the values of all processes that can be asked, in the order of ranks; to rank 0 only."""
        return [value] if self.leads else []
