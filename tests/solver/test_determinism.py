"""`deterministic`: the same bits in every run, with shuffles, augmentation, several threads and Python's generators."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.recorded import tool_environment
from tests.solver.small_run import lay_out, make_solver

NET = """
layer { name: "pictures" type: "ImageData" top: "data" top: "label" transform_param { mirror: true crop_size: 20
    augmentation { brightness: 0.3 max_rotation: 10 cutout { size: 4 } } }
  image_data_param { source: "list.txt" batch_size: 7 shuffle: true is_color: false } data_param { prefetch: 3 } }
layer { name: "noise" type: "Python" bottom: "data" top: "noisy"
  python_param { module: "own_layers" layer: "Noise" } }
layer { name: "drop" type: "Dropout" bottom: "noisy" top: "noisy" }
layer { name: "ip" type: "InnerProduct" bottom: "noisy" top: "ip"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""
SOLVER = """
net: "net.prototxt" base_lr: 0.0001 momentum: 0.9 lr_policy: "fixed" max_iter: 30 snapshot_prefix: "s"
solver_mode: CPU deterministic: true
"""
LAYER = """
import random
import numpy as np
import caffe

class Noise(caffe.Layer):
    def setup(self, bottom, top): pass
    def reshape(self, bottom, top): top[0].reshape(*bottom[0].data.shape)
    def forward(self, bottom, top): top[0].data[...] = bottom[0].data + np.random.rand() + random.random()
    def backward(self, top, propagate_down, bottom): pass
"""


@pytest.fixture
def folder(tmp_path):
    random = np.random.default_rng(0)
    lines = []
    for i in range(20):
        Image.fromarray(random.integers(0, 255, (24, 24), np.uint8)).save(tmp_path / f"{i}.png")
        lines.append(f"{i}.png {i % 3}\n")
    (tmp_path / "list.txt").write_text("".join(lines))
    (tmp_path / "net.prototxt").write_text(NET)
    (tmp_path / "solver.prototxt").write_text(SOLVER)
    (tmp_path / "own_layers.py").write_text(LAYER.replace("import caffe\n", "import caffetools.pycaffe as caffe\n"))
    return tmp_path


def trained(folder, threads):
    """The model that a process of its own trains, and its log."""
    environment = {**tool_environment(), "NUMBA_NUM_THREADS": threads}
    environment["PYTHONPATH"] += f":{folder}"
    result = subprocess.run(
        [sys.executable, "-m", "caffetools.cli.caffe", "train", "--solver=solver.prototxt"],
        cwd=folder, env=environment, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return (folder / "s_iter_30.caffemodel").read_bytes(), result.stderr


def test_same_bits_in_every_run(folder):
    runs = [trained(folder, threads) for threads in ("1", "2", "2")]
    assert len({model for model, _ in runs}) == 1
    log = runs[0][1]
    assert "Deterministic: random_seed 1, as the solver file has none, for initial weights, dropout" in log


def test_without_it_the_runs_differ(folder):
    Path(folder, "solver.prototxt").write_text(SOLVER.replace("deterministic: true", ""))
    assert trained(folder, "2")[0] != trained(folder, "2")[0]


def test_a_seed_of_the_file_is_kept(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    lay_out(tmp_path)
    weights = []
    for more in ("deterministic: true random_seed: 5", "random_seed: 5"):
        solver = make_solver(more)
        solver.close()
        weights.append(solver.net.param_data.copy())
    np.testing.assert_array_equal(*weights)
    assert "random_seed 5, from the solver file" in capfd.readouterr().err
