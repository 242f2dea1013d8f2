"""Old definitions and weights made new: V0 and V1 layers, data, input and batch norm fields, solver types.

Upgrades happen in memory whenever a file is loaded, with the original's notices in the log. They are passes
(see `passes.py`): each takes a message and returns a new one, its argument stays as it was.
"""

from __future__ import annotations

from caffetools.upgrade.net import NET_PASSES, upgrade_net
from caffetools.upgrade.passes import Outcome, run_passes
from caffetools.upgrade.read import read_net, read_net_binary, read_net_text, read_solver
from caffetools.upgrade.solver import SOLVER_PASSES, upgrade_solver

__all__ = [
    "NET_PASSES",
    "SOLVER_PASSES",
    "Outcome",
    "read_net",
    "read_net_binary",
    "read_net_text",
    "read_solver",
    "run_passes",
    "upgrade_net",
    "upgrade_solver",
]
