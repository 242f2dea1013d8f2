"""caffe summary: where it takes the shapes of a net's inputs from, without reading more than it must."""

from __future__ import annotations

import threading

import h5py
import numpy as np
import pytest

from caffetools.formats.db import open_db
from caffetools.glog import FatalError
from caffetools.proto import caffe_pb2
from caffetools.tools import summary
from caffetools.tools.net_inputs import parse_shapes
from tests.tools.test_summary import FLOAT, net_input, read, rows


def data_layer(source, more=""):
    return (
        f'layer {{ name: "d" type: "Data" top: "data" top: "label" {more} '
        f'data_param {{ source: "{source}" batch_size: 20 backend: LMDB prefetch: 2 }} }}\n'
    )


def test_crop_and_means_tell_the_shape_without_the_database(tmp_path):
    more = "transform_param { crop_size: 9 mean_value: 1 mean_value: 2 mean_value: 3 }"
    net = read(tmp_path, data_layer("nowhere", more))
    assert rows(net)["d"].tops == ((20, 3, 9, 9), (20,))
    assert summary.summarize(net).read_ahead == 2 * FLOAT * (20 * 3 * 9 * 9 + 20)


def test_mixup_tells_the_shape_of_labels_without_the_database(tmp_path):
    means = "mean_value: 1 mean_value: 2 mean_value: 3"
    more = f"transform_param {{ crop_size: 9 {means} augmentation {{ mixup {{ classes: 7 }} }} }}"
    assert rows(read(tmp_path, data_layer("nowhere", more)))["d"].tops == ((20, 3, 9, 9), (20, 7))


def test_a_database_tells_the_shape(tmp_path):
    with open_db("lmdb", str(tmp_path / "db"), "new") as database:
        datum = caffe_pb2.Datum(channels=3, height=5, width=7, data=bytes(3 * 5 * 7))
        database.put(b"0", datum.SerializeToString())
        database.commit()
    threads = threading.active_count()
    net = read(tmp_path, data_layer(tmp_path / "db"))
    assert rows(net)["d"].tops == ((20, 3, 5, 7), (20,))
    assert threading.active_count() == threads


def test_rows_of_hdf5_tell_the_shape(tmp_path):
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        file["data"] = np.zeros((4, 2, 3), np.float32)
        file["target"] = np.zeros((4, 5), np.float32)
    (tmp_path / "list.txt").write_text(str(tmp_path / "rows.h5"))
    text = (
        'layer { name: "d" type: "HDF5Data" top: "data" top: "target" '
        f'hdf5_data_param {{ source: "{tmp_path / "list.txt"}" batch_size: 30 }} }}'
    )
    assert rows(read(tmp_path, text))["d"].tops == ((30, 2, 3), (30, 5))


def test_missing_data_says_the_way_out(tmp_path):
    with pytest.raises(FatalError, match=r"nowhere.*layer 'd'.*--input=data:20,C,H,W"):
        read(tmp_path, data_layer("nowhere"))
    net = read(tmp_path, data_layer("nowhere"), inputs="data:6,1,8,8")
    assert rows(net)["d"].tops == ((6, 1, 8, 8), (6,))


def test_the_file_of_an_hdf5_output_stays(tmp_path):
    path = tmp_path / "out.h5"
    path.write_bytes(b"precious")
    text = (
        net_input(4, 3)
        + net_input(4, name="label")
        + (
            'layer { name: "out" type: "HDF5Output" bottom: "data" bottom: "label" '
            f'hdf5_output_param {{ file_name: "{path}" }} }}'
        )
    )
    rows(read(tmp_path, text))
    assert path.read_bytes() == b"precious"


@pytest.mark.parametrize(
    ("text", "shapes"),
    [
        ("", {}),
        ("data:64", {"data": (64,)}),
        ("data:64,3,2,label:64", {"data": (64, 3, 2), "label": (64,)}),
    ],
)
def test_shapes_in_a_flag(text, shapes):
    assert parse_shapes(text) == shapes


@pytest.mark.parametrize(
    "text", ["64,3", "data", "data:", "data:3,x", "data:0", "data:3,,4", ":3", "data:-1"]
)
def test_bad_shapes_in_a_flag(text):
    with pytest.raises(FatalError, match="--input"):
        parse_shapes(text)
