"""`caffe.io`: pictures in, arrays to messages and back."""

from __future__ import annotations

from caffetools.proto import caffe_pb2
from caffetools.pycaffe.converters import (
    array_to_blobproto,
    array_to_datum,
    arraylist_to_blobprotovector_str,
    blobproto_to_array,
    blobprotovector_str_to_arraylist,
    datum_to_array,
)
from caffetools.pycaffe.interpolation import resize_image
from caffetools.pycaffe.pictures import load_image, oversample
from caffetools.pycaffe.transformer import Transformer

__all__ = [
    "Transformer",
    "array_to_blobproto",
    "array_to_datum",
    "arraylist_to_blobprotovector_str",
    "blobproto_to_array",
    "blobprotovector_str_to_arraylist",
    "caffe_pb2",
    "datum_to_array",
    "load_image",
    "oversample",
    "resize_image",
]
