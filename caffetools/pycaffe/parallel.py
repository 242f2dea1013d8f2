"""Training by several processes: what they tell the nets and solvers that they build (`nccl` connects them).

Every process says how many they are and which of them it is before it builds its solver; its data layers then read
every `solver_count`-th record. Rank 0 logs, tests and takes snapshots.
"""

from __future__ import annotations

from caffetools import glog
from caffetools.glog import check_ge, fatal

_count = 1
_rank = 0


def solver_count() -> int:
    """Return how many processes train together."""
    return _count


def solver_rank() -> int:
    """Return which of the processes this is, from 0."""
    return _rank


def set_solver_count(count: int) -> None:
    """Say how many processes train together, to the solvers that are built from now on."""
    global _count
    check_ge(count, 1, "solver_count >= 1", "at least this process trains")
    _count = count


def set_solver_rank(rank: int) -> None:
    """Say which of the processes this is, from 0, to the solvers that are built from now on.

    Nets and solvers log nothing at rank 1 and above, but for warnings and errors.
    """
    global _rank
    check_ge(rank, 0, "solver_rank >= 0", "ranks count from 0")
    _rank = rank
    glog.set_quiet(rank > 0)


def set_multiprocess(multiprocess: bool) -> None:
    """Say that the solvers that train together are processes, as they are here in any case."""


def ranks() -> tuple[int, int]:
    """Return rank and count. Errors: FatalError for a rank that is not below the count."""
    if _rank >= _count:
        fatal(
            f"This process has the solver rank {_rank} of {_count}: call set_solver_count before a solver is built"
        )
    return _rank, _count
