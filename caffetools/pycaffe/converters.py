"""Arrays to the messages of Caffe's files and back."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from caffetools.formats import blob as blob_format
from caffetools.formats import datum as datum_format
from caffetools.glog import FatalError
from caffetools.proto import caffe_pb2


def blobproto_to_array(blob: caffe_pb2.BlobProto, return_diff: bool = False) -> np.ndarray:
    """Return the data of a stored blob, or its gradients, as float32 in its shape.

    A blob of one value may lack a shape. Errors: ValueError for values that do not fit the shape.
    """
    try:
        return blob_format.to_array(blob, return_diff)
    except FatalError as err:
        raise ValueError(str(err)) from None


def array_to_blobproto(arr: np.ndarray, diff: np.ndarray | None = None) -> caffe_pb2.BlobProto:
    """Return an array of any shape, and gradients for it, as a stored blob."""
    return blob_format.fill_proto(caffe_pb2.BlobProto(), arr, diff)


def arraylist_to_blobprotovector_str(arraylist: Iterable[np.ndarray]) -> bytes:
    """Return several arrays as the bytes of a BlobProtoVector."""
    return caffe_pb2.BlobProtoVector(blobs=map(array_to_blobproto, arraylist)).SerializeToString()


def blobprotovector_str_to_arraylist(data: bytes) -> list[np.ndarray]:
    """Return the arrays in the bytes of a BlobProtoVector."""
    return [blobproto_to_array(blob) for blob in caffe_pb2.BlobProtoVector.FromString(data).blobs]


def array_to_datum(arr: np.ndarray, label: int | None = None) -> caffe_pb2.Datum:
    """Return an array (channels, height, width) as a record: bytes where it is uint8, else floats.

    Errors: ValueError for another number of axes.
    """
    if arr.ndim != 3:
        raise ValueError(
            f"Incorrect array shape. A record has channels x height x width, not {arr.ndim} axes"
        )
    return datum_format.from_array(arr, None if label is None else int(label))


def datum_to_array(datum: caffe_pb2.Datum) -> np.ndarray:
    """Return the values of a record, (channels, height, width): uint8 or float32; a picture is decoded.

    Errors: ValueError for values that do not fit the shape, or a picture that cannot be decoded.
    """
    try:
        return datum_format.to_array(datum).copy()
    except FatalError as err:
        raise ValueError(str(err)) from None
