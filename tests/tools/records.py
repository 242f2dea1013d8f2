"""Records of databases, to compare ours with the original's."""

from __future__ import annotations

import numpy as np
import pytest

from caffetools.formats import datum as datum_format
from caffetools.formats.db import open_db
from caffetools.proto import caffe_pb2


def records(path, backend="lmdb") -> dict[bytes, bytes]:
    """Return what is in a database; skip the test where its library is not installed."""
    if backend == "leveldb":
        pytest.importorskip("plyvel")
    with open_db(backend, path) as db:
        return dict(db)


def datums(path, backend="lmdb") -> dict[str, caffe_pb2.Datum]:
    """Return the messages in a database."""
    return {key.decode(): caffe_pb2.Datum.FromString(value) for key, value in records(path, backend).items()}


def pixels(datum) -> np.ndarray:
    """Return the values of a record, as numbers that can be subtracted."""
    return datum_format.to_array(datum).astype(float)
