"""A map whose calls run in threads and whose results come in the order of the items."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from caffetools.engine.cpu.threads import thread_count

Item = TypeVar("Item")
Result = TypeVar("Result")

#: Calls that may be under way or finished ahead of the consumer, for each thread.
_AHEAD = 8


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int | None = None
) -> Iterator[Result]:
    """Yield `function(item)` for each item, in order, with a bounded number of calls ahead of the consumer.

    threads: how many call at the same time; the engine's number of threads by default. Whatever a call raises
    comes out here, in its place; what is under way then is finished, and nothing else is begun.
    """
    threads = threads or thread_count()
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads, "map") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= _AHEAD * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
