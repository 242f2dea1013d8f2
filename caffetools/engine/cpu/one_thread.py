"""Small work on the calling thread alone.

Work on few elements takes a few microseconds: on one thread it is done before others are awake, and it does not wait
for a processor that another program holds. Results do not depend on it.
"""

from __future__ import annotations

import numba

SMALL = 32768  # elements that a layer reads and writes, parameters included


class Team:
    """The threads that parallel kernels run on, in a context: one or all, as `work_alone` says.

    Telling numba takes a microsecond, so it is told changes only, and what was so before when the context ends.
    """

    __slots__ = ("count", "alone", "before")

    current: int | None = None  # the number of threads as the innermost team has set it

    def __enter__(self) -> Team:
        self.count = numba.get_num_threads()
        self.alone = self.count == 1
        self.before, Team.current = Team.current, self.count
        return self

    def work_alone(self, alone: bool) -> None:
        """Run the parallel kernels that follow on one thread, or on all that there were."""
        if alone is not self.alone and self.count > 1:
            Team.current = 1 if alone else self.count
            numba.set_num_threads(Team.current)
            self.alone = alone

    def __exit__(self, *error: object) -> None:
        self.work_alone(False)
        Team.current = self.before


def threads_now() -> int:
    """Return for how many threads work is to be cut. Numba takes half a microsecond to say, which a team has asked."""
    return Team.current or numba.get_num_threads()
