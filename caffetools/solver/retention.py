"""Which snapshots of a run stay: the newest `snapshot_keep`, of those that the run itself has written."""

from __future__ import annotations

import contextlib
import glob
from pathlib import Path

from caffetools.glog import info


class Retention:
    """The snapshots that a run has written, by the stems of their names (`P_iter_N`), the oldest first.

    A resumed run takes the list over from the side file. Files of other runs, and the best snapshot, are not on it and
    never go.
    """

    def __init__(self, keep: int):
        self.keep = keep
        self.stems: list[str] = []

    def add(self, stem: str) -> None:
        """Note a snapshot that is about to be written, and forget those whose files somebody has removed."""
        self.stems = [old for old in self.stems if old != stem and _files(old)] + [stem]

    def prune(self) -> None:
        """Remove the files of the snapshots that are too many."""
        if self.keep <= 0:
            return
        for stem in self.stems[: -self.keep]:
            # The state goes first: where it exists, the snapshot is whole.
            for path in sorted(_files(stem), key=lambda path: ".solverstate" not in path.name):
                with contextlib.suppress(OSError):
                    path.unlink()
            info(f"Removed snapshot {stem} (snapshot_keep: {self.keep})")
        self.stems = self.stems[-self.keep :]


def _files(stem):
    """Return the files of a snapshot: P_iter_5.caffemodel and the like, not P_iter_5_other.caffemodel."""
    suffixes = (".solverstate", ".caffemodel", ".resume.")
    path = Path(stem)
    found = path.parent.glob(f"{glob.escape(path.name)}.*")
    return [file for file in found if file.name[len(path.name) :].startswith(suffixes)]
