"""A seed decides a run, whatever the number of threads; a step takes no new memory once the first are done."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
from google.protobuf import text_format

from caffetools.proto import caffe_pb2
from caffetools.solver import Solver
from tests.recorded import FORMATS, tool_environment
from tests.solver.test_resume import NET, SOLVER

LENET = (Path(__file__).parents[2] / "models" / "lenet" / "lenet_train_test.prototxt").read_text()
INPUT = """layer { name: "in" type: "Input" top: "data" top: "label"
  input_param { shape { dim: 16 dim: 1 dim: 28 dim: 28 } shape { dim: 16 } } }"""


def test_threads_do_not_change_a_run(tmp_path):
    for name in ("mnist_train_lmdb", "mnist_t10k_lmdb"):
        shutil.copytree(FORMATS / name, tmp_path / name)
    (tmp_path / "net.prototxt").write_text(NET)
    (tmp_path / "solver.prototxt").write_text(SOLVER % 7)
    models = []
    for threads in ("1", "2", "7"):
        subprocess.run(
            [sys.executable, "-m", "caffetools.cli.caffe", "train", "--solver=solver.prototxt"],
            cwd=tmp_path, env={**tool_environment(), "NUMBA_NUM_THREADS": threads}, check=True, capture_output=True,
        )  # fmt: skip
        models.append((tmp_path / "s_iter_40.caffemodel").read_bytes())
    assert models[0] == models[1]


def lenet_solver():
    """LeNet as it is trained, with inputs in place of its databases."""
    param = caffe_pb2.SolverParameter(base_lr=0.01, momentum=0.9, lr_policy="fixed", random_seed=1)
    text_format.Parse(LENET, param.net_param)
    layers = [layer for layer in param.net_param.layer if layer.type != "Data"]
    del param.net_param.layer[:]
    text_format.Parse(INPUT, param.net_param)
    param.net_param.layer.extend(layers)
    solver = Solver(param)
    random = np.random.default_rng(0)
    solver.net.blobs["data"].data[...] = random.standard_normal((16, 1, 28, 28))
    solver.net.blobs["label"].data[...] = random.integers(0, 10, 16)
    return solver


def test_a_step_allocates_nothing_of_size():
    solver = lenet_solver()
    solver.step(3)
    tracemalloc.start()
    try:
        solver.step(5)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    smallest_blob_of_conv = 4 * 16 * 50 * 8 * 8  # what one temporary array of the second convolution would take
    assert peak < smallest_blob_of_conv / 2
