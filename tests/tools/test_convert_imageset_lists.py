"""convert_imageset: the list of pictures, its labels, and labels that need a database of their own."""

from __future__ import annotations

import numpy as np
import pytest

from caffetools.glog import FatalError
from caffetools.tools.convert_imageset import Options, convert
from tests.recorded import log_lines
from tests.tools.records import datums, pixels
from tests.tools.test_convert_imageset import in_folder_with_pictures, make  # noqa: F401 the fixture works by its name


@pytest.mark.parametrize("ending", ["\n", "\r\n", ""])
def test_line_endings_and_blank_lines(ending):
    assert make(f"a.png 3 {ending}\n  \nd.png 4{ending}") == 0
    assert {key: datum.label for key, datum in datums("db").items()} == {
        "00000000_a.png": 3,
        "00000001_d.png": 4,
    }


def test_lines_without_labels_get_0_as_in_the_original(capfd):
    assert make("a.png\nd.png 4\n") == 0
    assert "W 1 of 2 lines of own.txt have no label: it is set to 0" in log_lines(capfd.readouterr().err)
    assert [datum.label for datum in datums("db").values()] == [0, 4]


@pytest.mark.parametrize(
    ("text", "label_type", "message"),
    [
        ("a.png 1\nd.png cat\n", "int", "own.txt, line 2: 'cat', behind the last blank, is no label"),
        ("a.png 1.5\n", "int", "'1.5'.* whole number of 32 bits is expected .--label_type=float"),
        ("a.png 3000000000\n", "int", "own.txt, line 1: '3000000000'"),
        ("c with space.jpg\n", "int", "'space.jpg', behind the last blank, is no label"),
        ("a.png x\n", "float", "own.txt, line 1: 'x'.* a number is expected"),
        ("a.png\n", "float", "1 line.s. without a label"),
        ("a.png 1 2\nd.png 1\n", "ints", "own.txt, line 2: 2 labels are expected, as in the first line"),
        ("a.png 1 2\nd.png 1 2.5\n", "ints", "own.txt, line 2: '2.5'"),
        ("", "int", "The list of pictures is empty: own.txt"),
        ("\n \n", "int", "The list of pictures is empty: own.txt"),
        ("a.png 1\n", "text", "Unknown label_type: text .known: int, ints, float, floats."),
    ],
)
def test_bad_lists(text, label_type, message, tmp_path):
    with pytest.raises(FatalError, match=message):
        make(text, label_type=label_type)
    assert not list(tmp_path.glob("db*"))


@pytest.mark.parametrize("name", ["nowhere.txt", "images"])
def test_a_list_that_cannot_be_read(name):
    with pytest.raises(FatalError, match=f"Failed to open the list of pictures: {name} "):
        convert("images/", name, "db", Options())


@pytest.mark.parametrize(
    ("label_type", "text", "expected"),
    [
        ("float", "a.png 0.5\nsub/c with space.jpg -1e-3\n", [[0.5], [-1e-3]]),
        ("floats", "a.png 0.5 2 3\nsub/c with space.jpg 4 5 6.25\n", [[0.5, 2, 3], [4, 5, 6.25]]),
        ("ints", "a.png 1 0\nsub/c with space.jpg 0 1\n", [[1, 0], [0, 1]]),
    ],
)
@pytest.mark.parametrize("backend", ["lmdb", "leveldb"])
def test_labels_that_do_not_fit_into_a_datum(label_type, text, expected, backend):
    if backend == "leveldb":
        pytest.importorskip("plyvel")
    assert make(text, label_type=label_type, backend=backend) == 0
    labels = datums("db_labels", backend)
    assert list(labels) == list(datums("db", backend)) == ["00000000_a.png", "00000001_sub/c with space.jpg"]
    for datum, values in zip(labels.values(), expected, strict=True):
        assert (datum.channels, datum.height, datum.width) == (len(values), 1, 1)
        np.testing.assert_array_equal(pixels(datum).ravel(), np.float32(values))


def test_a_data_layer_reads_pictures_and_labels_together():
    from google.protobuf import text_format

    from caffetools.layer import TEST, Context
    from caffetools.net import load_net
    from caffetools.proto import caffe_pb2

    make("a.png 0.5 2\nd.png 1.5 4\n", label_type="floats", options=Options(resize_width=9, resize_height=7))
    layer = 'layer {{ name: "{0}" type: "Data" top: "{0}" data_param {{ source: "{1}" batch_size: 2 backend: LMDB }} }}'
    text = layer.format("data", "db") + layer.format("label", "db_labels")
    net = load_net(text_format.Parse(text, caffe_pb2.NetParameter()), TEST, Context())
    net.forward()
    assert net.blobs["data"].shape == (2, 3, 7, 9)
    np.testing.assert_array_equal(net.blobs["label"].data.reshape(2, 2), [[0.5, 2], [1.5, 4]])
    net.close()
