"""A small net on recorded digits, with an accuracy, for tests of whole runs: a run takes a fraction of a second."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from types import SimpleNamespace

from caffetools.formats import prototxt
from caffetools.proto import caffe_pb2
from caffetools.solver import Solver, control
from tests.recorded import FORMATS

NET = """
name: "Small"
layer { name: "mnist" type: "Data" top: "data" top: "label" include { phase: TRAIN }
  transform_param { scale: 0.00390625 mirror: true crop_size: 24 }
  data_param { source: "mnist_train_lmdb" batch_size: 12 backend: LMDB } }
layer { name: "mnist" type: "Data" top: "data" top: "label" include { phase: TEST }
  transform_param { scale: 0.00390625 crop_size: 24 }
  data_param { source: "mnist_t10k_lmdb" batch_size: 8 backend: LMDB } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 6 kernel_size: 5 stride: 2 weight_filler { type: "xavier" } } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "drop1" type: "Dropout" bottom: "conv1" top: "conv1" }
layer { name: "ip1" type: "InnerProduct" bottom: "conv1" top: "ip1"
  inner_product_param { num_output: 10 weight_filler { type: "xavier" } } }
layer { name: "accuracy" type: "Accuracy" bottom: "ip1" bottom: "label" top: "accuracy" include { phase: TEST } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip1" bottom: "label" top: "loss" }
"""

SOLVER = """
net: "net.prototxt" test_iter: 4 test_interval: 5 base_lr: 0.05 momentum: 0.9 weight_decay: 0.0005
lr_policy: "fixed" max_iter: 40 snapshot_prefix: "s" solver_mode: CPU random_seed: 7
"""


def lay_out(folder: Path, net: str = NET) -> None:
    """Put the databases and the net into a folder."""
    for name in ("mnist_train_lmdb", "mnist_t10k_lmdb"):
        shutil.copytree(FORMATS / name, folder / name)
    (folder / "net.prototxt").write_text(net)


def solver_param(more: str = "") -> caffe_pb2.SolverParameter:
    """Return the solver file; settings in `more` replace its own."""
    param = prototxt.parse(SOLVER, caffe_pb2.SolverParameter)
    change = prototxt.parse(more, caffe_pb2.SolverParameter)
    for field, _ in change.ListFields():
        param.ClearField(field.name)
    param.MergeFrom(change)
    return param


def make_solver(more: str = "", **arguments) -> Solver:
    """Return a solver on the files of the present folder."""
    return Solver(solver_param(more), **arguments)


def tick_at_each_look(monkeypatch) -> None:
    """Let the clock of time limits move on by a second whenever a run looks at it, and at no other time."""
    seconds = itertools.count()
    monkeypatch.setattr(control, "time", SimpleNamespace(monotonic=lambda: next(seconds)))


class Recorder:
    """Keeps what a solver tells: losses and rates by iteration, test results by iteration and net."""

    def __init__(self):
        self.losses: dict[int, float] = {}
        self.rates: dict[int, float] = {}
        self.norms: dict[int, float] = {}
        self.tests: dict[tuple[int, int], dict[str, float]] = {}

    def trained(self, step):
        self.losses[step.iteration] = step.loss
        self.rates[step.iteration] = float(step.rate)
        self.norms[step.iteration] = step.gradient_norm

    def tested(self, iteration, net, means):
        self.tests[iteration, net] = {name: value for name, value, _ in means}
