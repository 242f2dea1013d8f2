"""Batches of CIFAR-10 in its binary form: records of a label byte and 3 x 32 x 32 bytes, red, green and blue."""

from __future__ import annotations

import os

import numpy as np

from caffetools import glog
from caffetools.formats import files

SHAPE = (3, 32, 32)
CLASSES = 10
_RECORD = 1 + 3 * 32 * 32


def read_batch(path: str | os.PathLike[str], expr: str, message: str) -> tuple[np.ndarray, np.ndarray]:
    """The labels (n,) and pictures (n, 3, 32, 32) of a file, uint8.

    :param expr: condition that the log shows as failed if the file cannot be opened, and with what message
    :raises FatalError: also if it is cut off, or a label is no class
    """
    path = os.fspath(path)
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as err:
        glog.check(False, expr, f"{message} ({path}: {files.reason(err)})")
    count, rest = divmod(len(data), _RECORD)
    if rest or not count:
        glog.fatal(
            f"{path} is truncated, or no batch of CIFAR-10: it has {len(data)} bytes, not a multiple of {_RECORD}"
        )
    records = np.frombuffer(data, np.uint8).reshape(count, _RECORD)
    labels = records[:, 0]
    if labels.max() >= CLASSES:
        place = int(labels.argmax())
        glog.fatal(
            f"{path} is damaged, or no batch of CIFAR-10: record {place} has the label {labels[place]}"
        )
    return labels, records[:, 1:].reshape(count, *SHAPE)
