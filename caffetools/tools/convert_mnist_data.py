"""`convert_mnist_data`: from MNIST's idx files to a database that a Data layer reads."""

from __future__ import annotations

from caffetools import glog
from caffetools.formats import idx
from caffetools.formats.db import open_db
from caffetools.glog import check_eq
from caffetools.proto import caffe_pb2

_COMMIT_EVERY = 1000  # records


def convert(images: str, labels: str, db: str, backend: str = "lmdb") -> None:
    """Write a new database `db`: a Datum for each picture of `images`, with the keys 00000000, 00000001, ...

    images, labels: idx files, plain or .gz. backend: "lmdb" or "leveldb".
    Errors: FatalError for files that are no idx files or do not belong together, and for a `db` that exists.
    """
    pictures = idx.read_images(images)
    digits = idx.read_labels(labels)
    count, rows, columns = pictures.shape
    check_eq(count, len(digits), "num_items == num_labels", f"({images} and {labels} do not belong together)")
    with open_db(backend, db, "new") as database:
        glog.info(f"A total of {count} items.")
        glog.info(f"Rows: {rows} Cols: {columns}")
        datum = caffe_pb2.Datum(channels=1, height=rows, width=columns)
        for i, (picture, digit) in enumerate(zip(pictures, digits.tolist(), strict=True)):
            datum.data = picture.tobytes()
            datum.label = digit
            database.put(b"%08d" % i, datum.SerializeToString())
            if (i + 1) % _COMMIT_EVERY == 0:
                database.commit()
    glog.info(f"Processed {count} files.")
