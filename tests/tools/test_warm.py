"""`caffe warm`: what it compiles is what a run needs, and what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import numpy as np
import pytest

from caffetools.formats.db import open_db
from caffetools.proto import caffe_pb2
from tests.recorded import tool_environment

NET = """
name: "small"
layer { name: "data" type: "Data" top: "data" top: "label"
  transform_param { scale: 0.5 mirror: true }
  data_param { source: "records" batch_size: 64 backend: LMDB } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "accuracy" type: "Accuracy" bottom: "ip" bottom: "label" top: "accuracy" include { phase: TEST } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""
SOLVER = """
net: "net.prototxt" type: "Adam" base_lr: 0.01 momentum: 0.9 momentum2: 0.999 lr_policy: "fixed" clip_gradients: 1
test_iter: 1 test_interval: 1 max_iter: 1
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "net.prototxt").write_text(NET)
    (tmp_path / "solver.prototxt").write_text(SOLVER)
    return tmp_path


def caffe(*arguments, cwd, **environment):
    """Run the program in a folder; return its exit status and what it wrote to standard error."""
    result = subprocess.run(
        [sys.executable, "-m", "caffetools.cli.caffe", *arguments, "--logtostderr"],
        cwd=cwd, env={**tool_environment(), **environment}, capture_output=True, text=True,
    )  # fmt: skip
    return result.returncode, result.stderr


@pytest.mark.slow
def test_a_run_after_it_compiles_nothing(folder):
    cache = {"NUMBA_CACHE_DIR": str(folder / "cache")}
    status, said = caffe("warm", "--solver=solver.prototxt", "--input=data:64,1,4,5", cwd=folder, **cache)
    assert status == 0, said
    assert f"compiling kernels ... (only once: they are kept in {folder / 'cache'}" in said
    count, seconds = re.search(r"\] solver.prototxt: (\d+) kernels compiled in (\S+) s\n", said).groups()
    assert int(count) > 5
    assert float(seconds) > 0
    assert f"] Compiled {count} kernels (" in said
    assert "Creating layer" not in said
    with open_db("lmdb", folder / "records", "new") as db:
        for i in range(70):
            data = np.full(20, i, np.uint8).tobytes()
            datum = caffe_pb2.Datum(channels=1, height=4, width=5, data=data, label=i % 3)
            db.put(b"%04d" % i, datum.SerializeToString())
    status, said = caffe("train", "--solver=solver.prototxt", cwd=folder, **cache)
    assert status == 0, said
    assert "Optimization Done." in said
    assert "compiling kernels" not in said


def test_data_that_is_not_there(folder):
    status, said = caffe("warm", "--model=net.prototxt", cwd=folder)
    assert status == 134
    assert "say the shape: --input=data:64,C,H,W" in said


def test_a_folder(folder):
    """The shapes come from the net for use; what cannot be built is told and left out."""
    use = 'layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 1 dim: 1 dim: 4 dim: 5 } } }\n'
    (folder / "deploy.prototxt").write_text(use + 'layer { name: "s" type: "Silence" bottom: "data" }')
    (folder / "broken.prototxt").write_text('layer { name: "a" type: "ReLU" bottom: "nothing" top: "b" }')
    status, said = caffe("warm", f"--models={folder}", cwd=folder)
    assert status == 0, said
    taken = re.findall(rf"\] {re.escape(str(folder))}{os.sep}(\S+): \d+ kernels", said)
    assert taken == ["deploy.prototxt", "solver.prototxt"]
    assert re.search(r"W.*broken.prototxt: left out. .*nothing", said)


def test_an_empty_folder(tmp_path):
    status, said = caffe("warm", f"--models={tmp_path}", cwd=tmp_path)
    assert status == 134
    assert "there is no prototxt in this folder" in said


def test_without_flags_it_is_lenet(tmp_path):
    status, said = caffe("warm", cwd=tmp_path)
    assert status == 0, said
    assert re.search(r"\] LeNet: \d+ kernels compiled in", said)
