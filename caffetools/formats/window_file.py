"""Lists of pictures and windows in them, as R-CNN writes them and WindowData reads them.

Words apart by blanks or line ends, for each picture:

    # index
    path
    channels height width
    number of windows
    class overlap x1 y1 x2 y2      for each window; the corners belong to it
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, TextIO

import numpy as np

from caffetools import glog
from caffetools.glog import check, check_eq


class Entry(NamedTuple):
    """A picture with its windows.

    labels: int64 (windows,). overlaps: float32 (windows,). boxes: int64 (windows, 4), x1, y1, x2, y2.
    """

    index: int
    path: str
    channels: int
    height: int
    width: int
    labels: np.ndarray
    overlaps: np.ndarray
    boxes: np.ndarray


def read(path: str) -> Iterator[Entry]:
    """Yield the pictures of a list one after the other: it may be larger than memory.

    Errors: FatalError for a file that cannot be read, is empty, ends early or has other words than these.
    """
    try:
        file = open(path, encoding="utf-8", errors="surrogateescape")  # noqa: SIM115
    except OSError as err:
        glog.fatal(f"Failed to open window file {path} ({err.strerror})")
    with file:
        words = _Words(file, path)
        check(not words.at_end(), "infile >> hashtag >> image_index", f"Window file is empty: {path}")
        while not words.at_end():
            check_eq(words.take(), "#", 'hashtag == "#"', f"({words.place()})")
            index, picture = words.number(), words.take()
            channels, height, width, count = (words.number() for _ in range(4))
            rows = words.numbers(6 * count).reshape(count, 6)
            overlaps = rows[:, 1].astype(np.float32)
            labels, boxes = rows[:, 0].astype(np.int64), rows[:, 2:].astype(np.int64)
            yield Entry(index, picture, channels, height, width, labels, overlaps, boxes)


class _Words:
    """The words of a file one after the other."""

    def __init__(self, file: TextIO, path: str):
        self.file = file
        self.path = path
        self.line = 0
        self.words: list[str] = []

    def at_end(self) -> bool:
        while not self.words:
            text = self.file.readline()
            if not text:
                return True
            self.line += 1
            self.words = text.split()
        return False

    def take(self) -> str:
        return self._several(1)[0]

    def number(self) -> int:
        return int(self.numbers(1)[0])

    def numbers(self, count: int) -> np.ndarray:
        """Return the next `count` words as float64."""
        values = np.empty(count)
        filled = 0
        while filled < count:
            words = self._several(count - filled)
            try:
                values[filled : filled + len(words)] = words
            except ValueError:
                glog.fatal(f"{self.place()}: numbers are expected, not '{' '.join(words)}'")
            filled += len(words)
        return values

    def place(self) -> str:
        return f"{self.path}, line {self.line}"

    def _several(self, most: int) -> list[str]:
        """Return the next words of a line, `most` of them or what it has left."""
        if self.at_end():
            glog.fatal(f"{self.path} ends within a picture's windows")
        words, self.words = self.words[:most], self.words[most:]
        return words
