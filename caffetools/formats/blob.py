"""BlobProto, the form in which arrays are stored, to NumPy arrays and back."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from caffetools import glog
from caffetools.formats import binary
from caffetools.formats.wire import read_varint, varint
from caffetools.proto import caffe_pb2

_LEGACY = ("num", "channels", "height", "width")
_FIELDS = {False: ("data", "double_data", "raw_data"), True: ("diff", "double_diff", "raw_diff")}
_RAW_TYPES = {caffe_pb2.DOUBLE: "<f8", caffe_pb2.FLOAT: "<f4", caffe_pb2.FLOAT16: "<f2"}


def shape_of(proto: caffe_pb2.BlobProto) -> tuple[int, ...]:
    """The dimensions of a stored blob: its shape, or num x channels x height x width in the old form."""
    if is_legacy(proto):
        return tuple(getattr(proto, name) for name in _LEGACY)
    return tuple(proto.shape.dim)


def is_legacy(proto: caffe_pb2.BlobProto) -> bool:
    """Whether the dimensions are given in the old 4-d form."""
    return any(proto.HasField(name) for name in _LEGACY)


def shapes_match(proto: caffe_pb2.BlobProto, shape: Sequence[int]) -> bool:
    """Whether a stored blob fits an array of some shape.

    Biases were 1 x 1 x 1 x n before blobs had any number of axes: an old shape is compared with `shape` after
    that is filled with ones on its left. An array of more than four axes fits no old blob.
    """
    if is_legacy(proto):
        return len(shape) <= 4 and shape_of(proto) == (1,) * (4 - len(shape)) + tuple(shape)
    return shape_of(proto) == tuple(shape)


def to_array(proto: caffe_pb2.BlobProto, diff: bool = False) -> np.ndarray:
    """The data (or gradients) of a stored blob as a new float32 array; values of other types are converted.

    :raises FatalError: if the number of values does not fit the shape
    """
    name, double, raw = _FIELDS[diff]
    if proto.HasField(raw):
        name, array = raw, _raw_values(proto, raw)
    elif len(getattr(proto, double)):
        name, array = double, _values(proto, double, np.dtype("<f8"))
    else:
        array = _values(proto, name, np.dtype("<f4"))
    shape = shape_of(proto)
    if len(array) != math.prod(shape):
        text = " ".join(map(str, shape))
        glog.fatal(
            f"A blob of shape {text} has {math.prod(shape)} values, but {len(array)} are stored in its {name}"
        )
    return array.astype(np.float32, copy=False).reshape(shape)


def fill_proto(
    proto: caffe_pb2.BlobProto, data: np.ndarray, diff: np.ndarray | None = None
) -> caffe_pb2.BlobProto:
    """Store an array, and its gradients if given, as float32 in an empty proto, which is returned."""
    proto.shape.SetInParent()  # a scalar has a shape as well: one without dimensions
    proto.shape.dim.extend(np.shape(data))
    for name, array in (("data", data), ("diff", diff)):
        if array is not None:
            number = proto.DESCRIPTOR.fields_by_name[name].number
            content = np.asarray(array, "<f4").tobytes()
            if len(content) > binary.LIMIT:
                glog.fatal(f"A blob of {len(content) // 4} values is {binary.TOO_LARGE}")
            # as bytes of the wire, since extending the field takes a hundred times as long
            proto.MergeFromString(_key(number) + varint(len(content)) + content)
    return proto


def _raw_values(proto: caffe_pb2.BlobProto, name: str) -> np.ndarray:
    """The values that NVCaffe keeps as bytes, as a new array."""
    content, kind = getattr(proto, name), getattr(proto, f"{name}_type")
    if kind not in _RAW_TYPES:
        glog.fatal(f"A blob's {name} holds numbers of type {caffe_pb2.Type.Name(kind)}, which no parameter has")
    dtype = np.dtype(_RAW_TYPES[kind])
    if len(content) % dtype.itemsize:
        glog.fatal(f"A blob's {name} has {len(content)} bytes: no multiple of {dtype.itemsize}")
    return np.frombuffer(content, dtype).copy()


def _values(proto: caffe_pb2.BlobProto, name: str, dtype: np.dtype) -> np.ndarray:
    """A repeated field of floats or doubles as a new array."""
    field = getattr(proto, name)
    if hasattr(field, "__array__"):
        return np.array(field, dtype)
    # Before protobuf 7.34 a field is read value by value, which takes minutes for a large net: take its bytes
    # from the wire form instead.
    number = proto.DESCRIPTOR.fields_by_name[name].number
    for key, content in _wire_fields(proto.SerializePartialToString()):
        if key == _key(number):
            return np.frombuffer(content, dtype).copy()
    return np.empty(0, dtype)


_LENGTH_DELIMITED = 2


def _key(number: int) -> bytes:
    """What precedes a length-delimited field on the wire."""
    return varint(number << 3 | _LENGTH_DELIMITED)


def _wire_fields(wire: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Keys and contents of the length-delimited fields of a serialized BlobProto."""
    view = memoryview(wire)
    position = 0
    while position < len(view):
        start = position
        key, position = read_varint(view, position)
        value, after = read_varint(view, position)
        if key & 7 == _LENGTH_DELIMITED:
            yield wire[start:position], view[after : after + value]
            after += value
        position = after  # num, channels, height and width are varints themselves
