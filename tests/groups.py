"""Groups of processes that are connected, all of them in this process: each is for a thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from caffetools.engine.process_group import ProcessGroup
from caffetools.engine.rendezvous import join, new_key


def in_threads(functions: list[Callable[[], object]]) -> list:
    """Call functions at the same time and return what they return."""
    found = {}
    threads = [
        threading.Thread(target=lambda i=i: found.update({i: functions[i]()}), daemon=True)
        for i in range(len(functions))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return [found[i] for i in range(len(functions))]


@contextmanager
def connected(ranks: int) -> Iterator[list[ProcessGroup]]:
    """Make the groups of so many ranks, and let them part in peace."""
    key = new_key()
    groups = in_threads([lambda rank=rank: join(key, rank, ranks) for rank in range(ranks)])
    yield groups
    for group in groups:
        for lifeline in group._lifelines:
            lifeline.send("done")
