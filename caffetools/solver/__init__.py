"""Training: update rules, learning-rate policies, snapshots, signals, and the loop that uses them."""

from caffetools.solver.solver import Solver

__all__ = ["Solver"]
