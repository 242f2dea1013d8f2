"""Passes over a net's definition: which layers a state keeps, and a copy of each blob for each of its users.

Every pass takes a NetParameter and returns another one; its argument stays as it was, so that passes compose:
``insert_splits(filter_net(param))``.
"""

from __future__ import annotations

from caffetools.graph.filter import filter_net
from caffetools.graph.splits import insert_splits

__all__ = ["filter_net", "insert_splits"]
