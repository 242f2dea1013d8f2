"""Small work on the calling thread alone.

Work on few elements takes a few microseconds: on one thread it is done before others are awake, and it does not wait
for a processor that another program holds. Results do not depend on it.
"""

from __future__ import annotations

import numba

SMALL = 32768  # elements that a layer reads and writes, parameters included


class OneThread:
    """A context in which parallel kernels run on one thread."""

    __slots__ = ("count",)

    def __enter__(self) -> None:
        self.count = numba.get_num_threads()
        numba.set_num_threads(1)

    def __exit__(self, *error: object) -> None:
        numba.set_num_threads(self.count)
