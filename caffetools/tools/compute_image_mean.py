"""`compute_image_mean`: the mean picture of a database, and the mean of each channel.

    mean[c, h, w] = sum over the records of x[c, h, w] / count

Sums are exact for bytes and in float64 otherwise; the original's float32 lost digits in large sets. Encoded
pictures are decoded in threads, as they are: gray ones have one channel.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from google.protobuf.message import DecodeError

from caffetools import glog
from caffetools.engine.cpu.jit import kernel
from caffetools.formats import binary, datum
from caffetools.formats.db import open_db
from caffetools.glog import FatalError, check_eq, fatal
from caffetools.proto import caffe_pb2
from caffetools.tools.ordered_map import ordered_map

_REPORT_EVERY = 10_000  # records


def compute(db: str, output: str = "", backend: str = "lmdb") -> np.ndarray:
    """Return the mean picture, float32 (channels, height, width), and write it to `output` if that is given.

    The file is a BlobProto, as `mean_file` of a data layer takes it. backend: "lmdb" or "leveldb".
    Errors: FatalError for a database that is empty or whose records differ in size, and for a record that is
    damaged; these name the record's key.
    """
    with open_db(backend, db) as records:
        mean = _mean(iter(records), db)
    if output:
        glog.info(f"Write to {output}")
        channels, height, width = mean.shape  # in the old form, which every reader of mean files knows
        proto = caffe_pb2.BlobProto(num=1, channels=channels, height=height, width=width)
        proto.data.extend(mean.ravel().tolist())
        binary.write(output, proto)
    glog.info(f"Number of channels: {len(mean)}")
    for c, value in enumerate(mean.mean(axis=(1, 2), dtype=np.float64)):
        glog.info(f"mean_value channel [{c}]: {value:g}")
    return mean


def _mean(records: Iterator[tuple[bytes, bytes]], db: str) -> np.ndarray:
    first = next(records, None)
    if first is None:
        fatal(f"{db} is empty: it has no mean")
    if _parse(first).encoded:
        glog.info("Decoding Datum")
    picture = _picture(first)
    total = np.zeros(picture.shape, np.uint64 if picture.dtype == np.uint8 else np.float64)
    glog.info("Starting iteration")
    _add(total, picture, first)
    count = 1
    for record, picture in ordered_map(lambda record: (record, _picture(record)), records):
        _add(total, picture, record)
        count += 1
        if count % _REPORT_EVERY == 0:
            glog.info(f"Processed {count} files.")
    if count % _REPORT_EVERY:
        glog.info(f"Processed {count} files.")
    return (total / count).astype(np.float32)


def _add(total, picture, record):
    if picture.shape != total.shape:
        sizes = f"{_place(record)} is {_sizes(picture)}, the first one {_sizes(total)}"
        message = f"Incorrect data field size {picture.size} ({sizes})"
        check_eq(picture.size, total.size, "size_in_datum == data_size", message)
        fatal(message)
    if (picture.dtype == np.uint8) != (total.dtype == np.uint64):
        fatal(f"{_place(record)} has {picture.dtype} values, the records before it have others")
    add(picture.reshape(-1), total.reshape(-1))


@kernel
def add(x, total):
    for i in range(x.size):
        total[i] += x[i]


def _parse(record):
    try:
        return caffe_pb2.Datum.FromString(record[1])
    except DecodeError:
        fatal(f"{_place(record)} is damaged, or no Datum")


def _picture(record):
    try:
        return datum.to_array(_parse(record))
    except FatalError as err:
        err.args = (f"{err} ({_place(record)})",)
        raise


def _place(record):
    return f"record {record[0].decode(errors='replace')}"


def _sizes(picture):
    return " x ".join(map(str, picture.shape))
