"""The moving average of the weights on the GPU: the same as on the CPU, in training, tests and snapshots."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from caffetools.formats import prototxt
from caffetools.proto import caffe_pb2
from caffetools.solver import Solver
from tests.gpu.nets import CLASSIFIER
from tests.gpu.test_iteration import NOTHING

MORE = """
base_lr: 0.5 lr_policy: "fixed" max_iter: 100 random_seed: 4 ema_decay: 0.9 test_iter: 1 test_interval: 50
snapshot_prefix: "s" test_initialization: false
"""
X = np.random.default_rng(2).standard_normal((4, 6)).astype(np.float32)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def make(engine):
    param = prototxt.parse(MORE, caffe_pb2.SolverParameter)
    net = prototxt.parse(CLASSIFIER, caffe_pb2.NetParameter)
    param.net_param.CopyFrom(net)
    solver = Solver(param, engine=engine)
    for each in (solver.net, *solver.test_nets):
        each.blobs["x"].data[...] = X
        each.blobs["label"].data[...] = [0, 2, 1, 1]
    return solver


def test_average_tests_and_snapshots_are_those_of_the_cpu(engine):
    results = []
    for where in (None, engine):
        solver = make(where)
        solver.step(7)
        (name, loss, _), *_ = solver.test()
        weights = solver.net.flat_data.read_host().copy()
        average = solver.average.values.copy()
        assert abs(average - weights).max() > 1e-3
        solver.snapshot()
        solver.step(2)
        kept = solver.average.values.copy()
        resumed = make(where)
        resumed.restore("s_iter_7.solverstate")
        np.testing.assert_array_equal(resumed.average.values, average)
        np.testing.assert_array_equal(resumed.net.flat_data.read_host(), weights)
        resumed.step(2)
        np.testing.assert_array_equal(resumed.average.values, kept)
        saved = caffe_pb2.NetParameter.FromString(Path("s_iter_7.caffemodel").read_bytes())
        blobs = [np.array(blob.data) for layer in saved.layer for blob in layer.blobs]
        results.append([weights, average, np.array([loss]), *blobs])
    for here, there in zip(*results, strict=True):
        np.testing.assert_allclose(there, here, rtol=1e-4, atol=1e-6)


def test_steady_steps_copy_nothing(engine):
    solver = make(engine)
    solver.step(3)
    engine.counters.reset()
    solver.step(3)
    assert asdict(engine.counters) == NOTHING
