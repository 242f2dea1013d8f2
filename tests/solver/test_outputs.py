"""Outputs by name, which way is better, and how long nothing has improved: against NumPy's running best."""

from __future__ import annotations

import numpy as np
import pytest

from caffetools.formats import prototxt
from caffetools.glog import FatalError
from caffetools.layer import TEST, Context
from caffetools.net import load_net
from caffetools.proto import caffe_pb2
from caffetools.solver.outputs import Progress, find_target

INPUT = """layer { name: "in" type: "Input" top: "x" top: "label"
  input_param { shape { dim: 4 dim: 3 } shape { dim: 4 } } }"""
FIRST = """
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "x" bottom: "label" top: "nll" }
layer { name: "accuracy" type: "Accuracy" bottom: "x" bottom: "label" top: "right" top: "per_class" }
layer { name: "max" type: "Reduction" bottom: "x" top: "spread" reduction_param { operation: ASUM } }
layer { name: "err" type: "Reduction" bottom: "x" top: "mean_error" }
layer { name: "iou" type: "Reduction" bottom: "x" top: "mean_iou" }
"""
SECOND = 'layer { name: "loss" type: "EuclideanLoss" bottom: "x" bottom: "x" top: "l2" }'


def net(layers):
    return load_net(prototxt.parse(INPUT + layers, caffe_pb2.NetParameter), TEST, Context())


@pytest.fixture(scope="module")
def nets():
    return [net(FIRST), net(SECOND)]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("right", ("right", 0, 0, True)),
        ("nll", ("nll", 0, 0, False)),
        ("max:nll", ("nll", 0, 0, True)),
        ("per_class[2]", ("per_class", 2, 0, True)),
        ("min:per_class[0]@0", ("per_class", 0, 0, False)),
        ("l2", ("l2", 0, 1, False)),
        ("l2@1", ("l2", 0, 1, False)),
        ("mean_error", ("mean_error", 0, 0, False)),
        ("mean_iou", ("mean_iou", 0, 0, True)),
        ("min:spread", ("spread", 0, 0, False)),
    ],
)
def test_found(nets, spec, expected):
    target = find_target(spec, "early_stop", nets)
    assert (target.name, target.index, target.net, target.rises) == expected


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("rigth", "early_stop: no test net has an output 'rigth' .*; did you mean right?"),
        ("nll@1", "test net #1 does not have an output 'nll'"),
        ("nll@2", "there is no test net #2, they are numbered from 0 to 1"),
        ("per_class", r"output 'per_class' has 3 elements: name one, such as per_class\[0\]"),
        ("per_class[3]", r"output 'per_class' has 3 elements, there is no per_class\[3\]"),
        ("spread", "is more or less of 'spread' better. Say max:spread or min:spread"),
        ("[1]", "'\\[1\\]' names no output"),
    ],
)
def test_refused(nets, spec, words):
    with pytest.raises(FatalError, match=words):
        find_target(spec, "early_stop", nets)


def test_without_test_nets():
    with pytest.raises(FatalError, match="snapshot_best: 'accuracy' is an output of a test net"):
        find_target("accuracy", "snapshot_best", [])


def test_value_among_results(nets):
    results = [
        [("nll", 0.5, 1), ("right", 0.7, 0), ("per_class", 0.1, 0), ("per_class", 0.2, 0), ("per_class", 0.3, 0)],
        [("l2", 4.0, 1)],
    ]
    values = [find_target(spec, "x", nets).value(results) for spec in ("nll", "per_class[1]", "l2")]
    assert values == [0.5, 0.2, 4.0]


@pytest.mark.parametrize("rises", [True, False])
def test_progress_is_the_running_best(rises):
    values = np.random.default_rng(3).integers(0, 40, 60) / 40
    progress = Progress(rises)
    improved = [progress.observe(float(value), i) for i, value in enumerate(values)]
    running = np.maximum.accumulate(values) if rises else np.minimum.accumulate(values)
    changes = np.concatenate([[True], running[1:] != running[:-1]])
    assert improved == changes.tolist()
    assert progress.best == running[-1]
    assert progress.best_iteration == np.flatnonzero(changes)[-1]
    assert progress.stalled == len(values) - 1 - np.flatnonzero(changes)[-1]


def test_small_changes_do_not_count():
    progress = Progress(rises=False, min_delta=0.125)
    assert [progress.observe(value, i) for i, value in enumerate([1.0, 0.9375, 0.875, 0.8125])] == [
        True, False, False, True,
    ]  # fmt: skip


def test_nan_is_never_the_best():
    progress = Progress(rises=True)
    assert not progress.observe(float("nan"), 0)
    assert progress.best is None
    assert progress.observe(0.1, 1)


def test_state_goes_on():
    first, second = Progress(True), Progress(True)
    first.observe(0.5, 10)
    first.observe(0.25, 20)
    second.set_state(first.get_state())
    assert (second.best, second.best_iteration, second.stalled) == (0.5, 10, 1)
