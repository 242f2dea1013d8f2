"""BlobProto to arrays and back, against protobuf's own reading and writing of the fields."""

from __future__ import annotations

import numpy as np
import pytest

from caffetools.formats import binary, blob
from caffetools.glog import FatalError
from caffetools.proto import caffe_pb2

from .conftest import FORMATS

RNG = np.random.default_rng(0)


@pytest.fixture(params=["array", "wire"])
def reading(request, monkeypatch):
    """Both ways of reading a field: by its array interface, and by its bytes where there is none."""
    if request.param == "wire":
        monkeypatch.setattr(blob, "hasattr", lambda *_: False, raising=False)


def proto_of(**fields):
    dims = fields.pop("shape", None)
    proto = caffe_pb2.BlobProto(**fields)
    if dims is not None:
        proto.shape.dim.extend(dims)
    return proto


VALUES = [0.5, -1.0, 3.25, 7.0, 1e-3, 2.0]
CASES = [
    ("shape", proto_of(shape=(2, 3), data=VALUES), (2, 3), VALUES),
    ("legacy", proto_of(num=1, channels=2, height=1, width=3, data=VALUES), (1, 2, 1, 3), VALUES),
    ("legacy with a zero", proto_of(num=0, channels=2, height=1, width=3), (0, 2, 1, 3), []),
    ("double", proto_of(shape=(6,), double_data=VALUES), (6,), VALUES),
    ("double goes first", proto_of(shape=(2,), double_data=[1, 2], data=[3, 4]), (2,), [1, 2]),
    ("scalar", proto_of(shape=(), data=[4]), (), [4]),
    ("many", proto_of(shape=(300,), data=range(300)), (300,), range(300)),
    ("diff before data", proto_of(shape=(2,), diff=[8, 9], data=[1, 2]), (2,), [1, 2]),
]


@pytest.mark.parametrize(
    ("proto", "shape", "values"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_to_array(proto, shape, values, reading):
    array = blob.to_array(proto)
    assert array.dtype == np.float32
    assert array.flags.writeable
    np.testing.assert_array_equal(array, np.float32(list(values)).reshape(shape))


@pytest.mark.parametrize("field", ["diff", "double_diff"])
def test_to_array_of_gradients(field, reading):
    proto = proto_of(shape=(2,), data=[1, 2], **{field: [0.1, 0.2]})
    np.testing.assert_array_equal(blob.to_array(proto, diff=True), np.float32([0.1, 0.2]))


def test_array_outlives_its_proto(reading):
    proto = proto_of(shape=(6,), data=VALUES)
    array = blob.to_array(proto)
    proto.Clear()
    proto.data.extend([9] * 6)
    np.testing.assert_array_equal(array, np.float32(VALUES))


@pytest.mark.parametrize("count", [5, 7, 0])
def test_number_of_values_does_not_fit(count):
    with pytest.raises(
        FatalError, match=f"A blob of shape 2 3 has 6 values, but {count} are stored in its data"
    ):
        blob.to_array(proto_of(shape=(2, 3), data=[1] * count))


@pytest.mark.parametrize("shape", [(), (0,), (1,), (5,), (2, 3), (4, 1, 2, 2, 3), (40, 70)])
@pytest.mark.parametrize("with_diff", [False, True])
def test_fill_proto_writes_what_protobuf_would(shape, with_diff):
    data, diff = RNG.random((2, *shape), np.float32)
    expected = proto_of(
        shape=shape, data=data.ravel().tolist(), diff=diff.ravel().tolist() if with_diff else []
    )
    expected.shape.SetInParent()
    proto = blob.fill_proto(caffe_pb2.BlobProto(), data, diff if with_diff else None)
    assert proto.SerializeToString() == expected.SerializeToString()
    np.testing.assert_array_equal(blob.to_array(proto), data)


def test_fill_proto_narrows_and_orders():
    data = np.arange(6, dtype=np.float64).reshape(2, 3).T
    proto = blob.fill_proto(caffe_pb2.BlobProto(), data)
    assert list(proto.data) == [0, 3, 1, 4, 2, 5]
    assert not proto.double_data


def test_blob_that_protobuf_cannot_hold(monkeypatch):
    """With a limit of 1000 bytes in place of 2 GB."""
    monkeypatch.setattr(binary, "LIMIT", 1000)
    blob.fill_proto(caffe_pb2.BlobProto(), np.zeros(250))
    with pytest.raises(FatalError, match=r"A blob of 251 values is larger than 2 GB.*use HDF5"):
        blob.fill_proto(caffe_pb2.BlobProto(), np.zeros(251))


def test_recorded_model_is_written_again_byte_for_byte(tmp_path, reading):
    recorded = FORMATS / "small_iter_20.caffemodel"
    net = binary.read(recorded, caffe_pb2.NetParameter)
    for layer in net.layer:
        for proto in layer.blobs:
            array = blob.to_array(proto)
            np.testing.assert_array_equal(array.ravel(), np.float32(proto.data))
            proto.Clear()
            blob.fill_proto(proto, array)
    binary.write(tmp_path / "model", net)
    assert (tmp_path / "model").read_bytes() == recorded.read_bytes()


def test_recorded_mean():
    mean = binary.read(FORMATS / "set_mean.binaryproto", caffe_pb2.BlobProto)
    assert blob.is_legacy(mean)
    assert blob.shape_of(mean) == blob.to_array(mean).shape == (1, 3, 32, 32)


@pytest.mark.parametrize(
    ("stored", "shape", "match"),
    [
        ({"shape": (2, 3)}, (2, 3), True),
        ({"shape": (2, 3)}, (3, 2), False),
        ({"shape": (1, 1, 2, 3)}, (2, 3), False),
        ({"num": 1, "channels": 1, "height": 2, "width": 3}, (2, 3), True),
        ({"num": 1, "channels": 1, "height": 1, "width": 5}, (5,), True),
        ({"num": 5, "channels": 1, "height": 1, "width": 1}, (5,), False),
        ({"num": 1, "channels": 1, "height": 1, "width": 1}, (), True),
        ({"num": 4, "channels": 1, "height": 2, "width": 3}, (4, 1, 2, 3), True),
        ({"num": 1, "channels": 1, "height": 2, "width": 3}, (1, 1, 1, 2, 3), False),
    ],
)
def test_shapes_match(stored, shape, match):
    assert blob.shapes_match(proto_of(**stored), shape) is match


RAW = np.array([[0.5, -2, 3], [4, 0.25, -8]])


@pytest.mark.parametrize(("kind", "dtype"), [("DOUBLE", "<f8"), ("FLOAT", "<f4"), ("FLOAT16", "<f2")])
@pytest.mark.parametrize("diff", [False, True])
def test_blobs_of_nvcaffe(kind, dtype, diff):
    name = "raw_diff" if diff else "raw_data"
    proto = caffe_pb2.BlobProto(shape={"dim": RAW.shape}, **{name: RAW.astype(dtype).tobytes(), f"{name}_type": kind})
    array = blob.to_array(caffe_pb2.BlobProto.FromString(proto.SerializeToString()), diff)
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, RAW)
    array += 1  # it is nobody else's


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"raw_data": b"1234567", "raw_data_type": "FLOAT"}, "7 bytes: no multiple of 4"),
        ({"raw_data": b"12345678", "raw_data_type": "FLOAT"}, "has 6 values, but 2 are stored in its raw_data"),
        ({"raw_data": b"123456", "raw_data_type": "BOOL"}, "of type BOOL, which no parameter has"),
    ],
)
def test_blobs_of_nvcaffe_that_are_damaged(fields, message):
    with pytest.raises(FatalError, match=message):
        blob.to_array(caffe_pb2.BlobProto(shape={"dim": RAW.shape}, **fields))
