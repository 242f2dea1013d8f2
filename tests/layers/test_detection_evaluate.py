"""DetectionEvaluate by small scenes, and the mean average precision that a solver makes of it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from caffetools.formats import prototxt
from caffetools.glog import FatalError
from caffetools.layer import TEST, Context, RandomSource
from caffetools.layers.detection_evaluate import read_sizes
from caffetools.net import Net
from caffetools.proto import caffe_pb2
from caffetools.solver.scores import means, precisions
from caffetools.solver.solver import Solver
from caffetools.tools import test as tool
from tests.layers.gradient import SingleLayer

LEFT, RIGHT, NEAR_LEFT, FAR = (0.1, 0.1, 0.4, 0.5), (0.6, 0.1, 0.9, 0.5), (0.1, 0.1, 0.4, 0.45), (0.5, 0.7, 0.7, 0.9)
TRUTH = [(0, 1, 0, *LEFT, 0), (0, 1, 1, *RIGHT, 1), (1, 2, 0, *LEFT, 0)]
FOUND = [
    (0, 1, 0.5, *LEFT),  # second on its box
    (0, 1, 0.9, *NEAR_LEFT),  # right
    (0, 1, 0.6, *RIGHT),  # a difficult one
    (0, 2, 0.7, *LEFT),  # of another class
    (1, 2, 0.4, *LEFT),  # right
    (1, 2, 0.3, *FAR),  # nothing is there
    (2, 1, 0.2, *LEFT),  # a picture without boxes
]
JUDGED = [
    (0, 1, 0.9, 1, 0), (0, 1, 0.6, 1, 0), (0, 1, 0.5, 0, 1), (0, 2, 0.7, 0, 1), (1, 2, 0.4, 1, 0), (1, 2, 0.3, 0, 1),
    (2, 1, 0.2, 0, 1),
]  # fmt: skip


def evaluated(text, found=FOUND, truth=TRUTH):
    """Return the rows that a layer with 3 classes makes."""
    layer = f'type: "DetectionEvaluate" detection_evaluate_param {{ num_classes: 3 {text} }}'
    (y,) = SingleLayer(layer, np.array(found)[None, None], np.array(truth)[None, None]).forward()
    return y.reshape(-1, 5)


def test_rows_in_their_order():
    expected = [(-1, 1, 2, -1, -1), (-1, 2, 1, -1, -1), *JUDGED]
    np.testing.assert_allclose(evaluated(""), expected, rtol=1e-6)


def test_difficult_boxes_may_not_count():
    judged = [row if row[2] != 0.6 else (0, 1, 0.6, 0, 0) for row in JUDGED]
    expected = [(-1, 1, 1, -1, -1), (-1, 2, 1, -1, -1), *judged]
    np.testing.assert_allclose(evaluated("evaluate_difficult_gt: false"), expected, rtol=1e-6)


def test_the_threshold_decides():
    rows = evaluated("overlap_threshold: 0.9")
    np.testing.assert_allclose(rows[2], (0, 1, 0.9, 0, 1), rtol=1e-6)  # overlaps by 7 / 8
    np.testing.assert_allclose(rows[4], (0, 1, 0.5, 1, 0), rtol=1e-6)


def test_sizes_make_pixels(tmp_path):
    path = tmp_path / "sizes.txt"
    path.write_text("one picture 2 2\nanother 200 200\n")
    assert read_sizes(str(path)) == [(2, 2), (200, 200)]
    # Halves of a picture share nothing, but of 2 x 2 pixels they are 2 wide where 3 are: 4 of 8 are in both.
    found = [(item, 1, 0.5, 0, 0, 0.5, 1) for item in (0, 1)]
    truth = [(item, 1, 0, 0.5, 0, 1, 1, 0) for item in (0, 1)]
    text = f'overlap_threshold: 0.3 name_size_file: "{path}"'
    np.testing.assert_array_equal(evaluated(text, found, truth)[2:, 3:], [[1, 0], [0, 1]])


def test_nothing_found():
    rows = evaluated("", found=[(0, *[-1] * 6), (1, *[-1] * 6)])
    np.testing.assert_array_equal(rows, [(-1, 1, 2, -1, -1), (-1, 2, 1, -1, -1)])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("background_label_id: 1", "A box of class 1: .* 1 is the background"),
        ("overlap_threshold: 0", "must be positive"),
        ("resize_param { resize_mode: FIT_SMALL_SIZE }", "only WARP"),
        ('name_size_file: "no file"', "File not found"),
    ],
)
def test_what_cannot_be_evaluated(text, message):
    with pytest.raises(FatalError, match=message):
        evaluated(text)


def test_a_line_that_is_no_size(tmp_path):
    path = tmp_path / "sizes.txt"
    path.write_text("a 3 4\nb 5\n")
    with pytest.raises(FatalError, match=r"sizes.txt:2: a line is"):
        read_sizes(str(path))


def net_of(found, truth):
    """A net that learns something, and tests detections that are always the same."""

    def source(name, rows):
        dims = f"dim: 1 dim: 1 dim: {len(rows)} dim: {len(rows[0])}"
        return (
            f'layer {{ name: "{name}" type: "Parameter" top: "{name}" include {{ phase: TEST }} '
            f"parameter_param {{ shape {{ {dims} }} }} }}\n"
        )

    return (
        source("found", found)
        + source("truth", truth)
        + 'layer { name: "eval" type: "DetectionEvaluate" bottom: "found" bottom: "truth" top: "detection_eval" '
        "include { phase: TEST } detection_evaluate_param { num_classes: 3 } }\n"
        'layer { name: "x" type: "DummyData" top: "x" include { phase: TRAIN } '
        "dummy_data_param { shape { dim: 1 } } }\n"
        'layer { name: "loss" type: "EuclideanLoss" bottom: "x" bottom: "x" top: "loss" include { phase: TRAIN } }\n'
    )


def solver_of(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("net.prototxt").write_text(net_of(FOUND, TRUTH))
    param = prototxt.parse(
        f'net: "net.prototxt" test_iter: 2 test_interval: 1 lr_policy: "fixed" base_lr: 0.1 max_iter: 1 {text}',
        caffe_pb2.SolverParameter,
    )
    solver = Solver(param)
    for name, rows in (("found", FOUND), ("truth", TRUTH)):
        solver.test_nets[0].layer_by_name[name].blobs[0].data[0, 0] = rows
    return solver


def test_mean_average_precision(tmp_path, monkeypatch, capfd):
    text = 'eval_type: "detection" show_per_class_result: true snapshot_best: "detection_eval" snapshot_prefix: "s"'
    solver = solver_of(text, tmp_path, monkeypatch)
    capfd.readouterr()
    ((name, value, weight),) = solver.test()
    # Twice the batch: class 1 has 2 x right, 2 x right, 4 x wrong with 4 boxes; class 2 wrong, right, wrong with 2.
    assert (name, value, weight) == ("detection_eval", pytest.approx((1 + (1 / 3 + 2 / 4) / 2) / 2), 0)
    log = re.sub(r"^.*?\] ", "", capfd.readouterr().err, flags=re.M).splitlines()
    assert log[-3:] == ["class1: 1", "class2: 0.416667", "    Test net output #0: detection_eval = 0.708333"]


GROWS = """
layer { name: "x" type: "DummyData" top: "x" dummy_data_param { shape { dim: 8 dim: 1 } } }
layer { name: "chosen" type: "DummyData" top: "chosen"
  dummy_data_param { shape { dim: 8 } data_filler { type: "uniform" min: -9 max: 9 } } }
layer { name: "t" type: "Threshold" bottom: "chosen" top: "t" }
layer { name: "filter" type: "Filter" bottom: "x" bottom: "t" top: "rows" }
"""


def grown_net():
    param = prototxt.parse(GROWS, caffe_pb2.NetParameter)
    param.state.phase = TEST
    return Net(param, Context(TEST, random=RandomSource(1)))


@pytest.mark.parametrize("run", [lambda net: means(net, 9, lambda: True), lambda net: tool._run(net, 9, None)])
def test_outputs_of_other_sizes_have_no_mean(run):
    with pytest.raises(FatalError, match="The outputs rows have other sizes .* DetectionEvaluate layer"):
        run(grown_net())


def test_detection_needs_rows_of_detections():
    param = caffe_pb2.SolverParameter(eval_type="detection")
    with pytest.raises(FatalError, match="rows is made by Filter"):
        precisions(grown_net(), 1, param, lambda: True)


@pytest.mark.parametrize(
    ("text", "message"),
    [('eval_type: "segmentation"', "eval_type"), ('ap_version: "12point"', 'did you mean "?11point')],
)
def test_evaluations_that_are_none(text, message, tmp_path, monkeypatch):
    with pytest.raises(FatalError, match=message):
        solver_of(text, tmp_path, monkeypatch)
