"""A loss that is not finite stops training and says where it began."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from caffetools.formats import prototxt
from caffetools.glog import FatalError
from caffetools.proto import caffe_pb2
from caffetools.solver import Solver, finite

SOLVER = """
net_param {
  layer { name: "in" type: "Input" top: "x" top: "t" input_param { shape { dim: 2 dim: 3 } shape { dim: 2 dim: 4 } } }
  layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y"
    inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
  layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "loss" }
}
lr_policy: "fixed" snapshot_prefix: "s"
"""


@pytest.fixture
def make_solver(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def make(more="base_lr: 0.1"):
        solver = Solver(prototxt.parse(SOLVER + more, caffe_pb2.SolverParameter))
        solver.net.blobs["x"].data[...] = 1
        return solver

    return make


def test_nan_in_the_data(make_solver):
    solver = make_solver()
    solver.step(2)
    solver.net.blobs["x"].data[0, 1] = np.nan
    with pytest.raises(
        FatalError, match=r"Iteration 2: the loss is nan\. .* blob 'x' made by layer 'in' \(Input\): 1 of 6 v"
    ):
        solver.step(1)


def test_infinite_parameter_and_snapshot(make_solver):
    solver = make_solver()
    solver.step(3)
    solver.snapshot()
    before = Path("s_iter_3.caffemodel").read_bytes()
    solver.net.params[1].data[2] = np.inf
    words = (
        r"parameter 1 of layer 'ip' \(InnerProduct\): 0 of 4 values are NaN, 1 infinite; the others lie between .*"
        r"The last snapshot, s_iter_3\.solverstate, is untouched"
    )
    with pytest.raises(FatalError, match=words):
        solver.step(1)
    assert Path("s_iter_3.caffemodel").read_bytes() == before


def test_diverging_run_stops(make_solver):
    with pytest.raises(FatalError, match=r"the loss is (inf|nan)\."):
        make_solver("base_lr: 1e20").step(20)


def test_switched_off(make_solver):
    solver = make_solver("base_lr: 0.1 stop_on_nan: false")
    solver.net.blobs["x"].data[...] = np.nan
    solver.step(3)
    assert solver.iter == 3
    assert np.isnan(solver.smoothed_loss)


def test_description():
    assert finite.describe(np.array([np.nan, 1, 3, -np.inf], np.float32)) == (
        "1 of 4 values are NaN, 1 infinite; the others lie between 1 and 3, their mean is 2"
    )
