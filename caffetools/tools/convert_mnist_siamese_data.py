"""`convert_mnist_siamese_data`: random pairs of MNIST's pictures, for nets that compare them.

A record has the two pictures as channels, and the label 1 if they show the same digit, else 0. There are as many
pairs as pictures; both pictures of a pair are drawn from all.
"""

from __future__ import annotations

import numpy as np

from caffetools import glog
from caffetools.engine.cpu.rng import RandomSource
from caffetools.formats import idx
from caffetools.glog import check_eq, check_gt
from caffetools.proto import caffe_pb2
from caffetools.tools.new_database import new_database


def convert(
    images: str, labels: str, db: str, backend: str = "leveldb", seed: int = -1, force: bool = False
) -> None:
    """Make the database `db`, with the keys 00000000, 00000001, ...

    images, labels: idx files, plain or .gz. backend: "leveldb", the original's only one, or "lmdb". seed: the
    same one draws the same pairs; a negative one draws new ones. force: replace a database of this name.
    Errors: FatalError for files that are no idx files or do not belong together, and for a `db` that exists.
    """
    pictures, digits = idx.read_images(images), idx.read_labels(labels)
    count, rows, columns = pictures.shape
    check_eq(count, len(digits), "num_items == num_labels")
    check_gt(count, 0, "num_items > 0", f"{images} has no pictures")
    pairs = RandomSource(seed).generator().integers(0, count, (count, 2))
    same = (digits[pairs[:, 0]] == digits[pairs[:, 1]]).astype(np.int64).tolist()
    with new_database(backend, db, force) as writer:
        glog.info(f"A total of {count} items.")
        glog.info(f"Rows: {rows} Cols: {columns}")
        datum = caffe_pb2.Datum(channels=2, height=rows, width=columns)
        for pair, label in zip(pairs, same, strict=True):
            datum.data = pictures[pair].tobytes()
            datum.label = label
            writer.put(b"%08d" % writer.count, datum.SerializeToString())
