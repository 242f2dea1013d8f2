"""Records, against the recorded ones."""

from __future__ import annotations

import numpy as np
import pytest

from caffetools.formats import datum, idx
from caffetools.formats.db import open_db
from caffetools.glog import FatalError
from caffetools.proto import caffe_pb2

from .conftest import FORMATS


def records(name):
    with open_db("lmdb", FORMATS / name) as db:
        return [caffe_pb2.Datum.FromString(value) for _, value in db]


def test_pictures_as_recorded():
    pictures = idx.read_images(FORMATS / "t10k-images-idx3-ubyte")
    labels = idx.read_labels(FORMATS / "t10k-labels-idx1-ubyte")
    recorded = records("mnist_t10k_lmdb")
    assert len(recorded) == len(pictures) == 32
    for record, picture, label in zip(recorded, pictures, labels, strict=True):
        made = datum.from_array(picture[np.newaxis], int(label))
        assert made.SerializeToString() == record.SerializeToString()
        assert datum.serialize_bytes(picture[np.newaxis], int(label)) == record.SerializeToString()
        np.testing.assert_array_equal(datum.to_array(record), picture[np.newaxis])


def test_floats_as_recorded():
    for record in records("feat_pool1_lmdb"):
        array = datum.to_array(record)
        assert array.dtype == np.float32
        assert array.shape == (record.channels, record.height, record.width) == (6, 6, 6)
        np.testing.assert_array_equal(array.ravel(), np.float32(record.float_data))
        assert datum.from_array(array).SerializeToString() == record.SerializeToString()
        assert datum.serialize_floats(array) == record.SerializeToString()


def test_encoded_as_recorded():
    for encoded in records("set_encoded_png_lmdb"):
        assert datum.to_array(encoded).shape == (3, 24, 40)


def test_other_types_are_stored_as_floats():
    record = datum.from_array(np.arange(6).reshape(1, 2, 3))
    assert list(record.float_data) == [0, 1, 2, 3, 4, 5]
    assert not record.HasField("data")
    assert not record.HasField("label")


@pytest.mark.parametrize(
    "fields",
    [{"data": b"\0" * 11}, {"data": b"\0" * 13}, {"float_data": [0] * 11}, {}],
    ids=["short", "long", "short floats", "nothing"],
)
def test_number_of_values_does_not_fit(fields):
    record = caffe_pb2.Datum(channels=3, height=2, width=2, **fields)
    with pytest.raises(FatalError, match=r"Incorrect data field size \d+: 3 x 2 x 2 is 12"):
        datum.to_array(record)


@pytest.mark.parametrize("shape", [(4,), (2, 3), (1, 2, 3, 4)])
def test_arrays_have_three_axes(shape):
    with pytest.raises(FatalError, match="Incorrect array shape."):
        datum.from_array(np.zeros(shape, np.uint8))
