"""Datum, one record of a database, to an array of channels x height x width and back."""

from __future__ import annotations

import numpy as np

from caffetools import glog
from caffetools.formats import image
from caffetools.formats.blob import varint
from caffetools.proto import caffe_pb2


def to_array(datum: caffe_pb2.Datum) -> np.ndarray:
    """The values of a record, C x H x W: uint8 for pictures (BGR), float32 for float_data.

    The array may be a read-only view of the record's bytes. An encoded picture is decoded as it is.

    :raises FatalError: if the number of values does not fit the shape, or a picture cannot be decoded
    """
    if datum.encoded:
        return image.decode(datum.data)
    shape = (datum.channels, datum.height, datum.width)
    size = datum.channels * datum.height * datum.width
    data = datum.data
    array = np.frombuffer(data, np.uint8) if data else np.array(datum.float_data, np.float32)
    if len(array) != size:
        glog.fatal(f"Incorrect data field size {len(array)}: {' x '.join(map(str, shape))} is {size}")
    return array.reshape(shape)


def from_array(chw: np.ndarray, label: int | None = None) -> caffe_pb2.Datum:
    """A record of an array C x H x W: bytes if it is uint8, else floats."""
    if chw.ndim != 3:
        glog.fatal(f"Incorrect array shape. A record has channels x height x width, not {chw.ndim} axes")
    datum = caffe_pb2.Datum()
    datum.channels, datum.height, datum.width = chw.shape
    if chw.dtype == np.uint8:
        datum.data = chw.tobytes()
    else:
        datum.float_data.extend(chw.astype(np.float32).ravel().tolist())
    if label is not None:
        datum.label = label
    return datum


_FIELDS = caffe_pb2.Datum.DESCRIPTOR.fields_by_name
#: Keys of the fields data, bytes, and float_data, four-byte values.
_DATA_KEY, _FLOAT_KEY = _FIELDS["data"].number << 3 | 2, _FIELDS["float_data"].number << 3 | 5


def serialize_bytes(chw: np.ndarray, label: int | None, encoded: bool | None = None) -> bytes:
    """The bytes of a record of a uint8 picture, as `from_array` makes it, with one copy of the picture."""
    channels, height, width = chw.shape
    head = caffe_pb2.Datum(channels=channels, height=height, width=width).SerializeToString()
    tail = caffe_pb2.Datum(label=label, encoded=encoded).SerializeToString()
    values = np.ascontiguousarray(chw).data.cast("B")
    return b"".join((head, bytes((_DATA_KEY,)), varint(chw.size), values, tail))


def serialize_floats(chw: np.ndarray) -> bytes:
    """The bytes of a record of floats, as `from_array` makes it: what protobuf does value by value, at once."""
    channels, height, width = chw.shape
    fields = np.empty((chw.size, 5), np.uint8)
    fields[:, 0] = _FLOAT_KEY
    fields[:, 1:] = np.ascontiguousarray(chw, "<f4").reshape(-1, 1).view(np.uint8)
    head = caffe_pb2.Datum(channels=channels, height=height, width=width)
    return head.SerializeToString() + fields.tobytes()
