"""A run in two halves equals a run in one go, bit for bit; without the side file it resumes as the original did."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from caffetools import upgrade
from caffetools.glog import FatalError
from caffetools.solver import Solver
from tests.recorded import FORMATS

NET = """
name: "Resumed"
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
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip1" bottom: "label" top: "loss" }
"""

SOLVER = """
net: "net.prototxt" test_iter: 3 test_interval: 7 base_lr: 0.05 momentum: 0.9 weight_decay: 0.0005
lr_policy: "inv" gamma: 0.01 power: 0.75 average_loss: 5 max_iter: 40 snapshot: 20 snapshot_prefix: "s"
solver_mode: CPU random_seed: %d
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("net.prototxt").write_text(NET)
    for name in ("mnist_train_lmdb", "mnist_t10k_lmdb"):
        shutil.copytree(FORMATS / name, name)
    return tmp_path


def run(seed, hdf5=False, resume=None):
    """Train to the end and return (losses a step, learnt weights, the smoothed loss)."""
    Path("solver.prototxt").write_text(SOLVER % seed + ("snapshot_format: HDF5" if hdf5 else ""))
    solver = Solver(upgrade.read_solver("solver.prototxt"))
    if resume:
        solver.restore(resume)
    losses = []
    solver.add_callback(lambda: None, lambda: losses.append(solver.losses[-1]))
    solver.solve()
    solver.close()
    return losses, solver.net.param_data.copy(), solver.smoothed_loss


@pytest.mark.parametrize("hdf5", [False, True])
@pytest.mark.parametrize("seed", [7, -1])
def test_two_halves_equal_the_whole(folder, hdf5, seed):
    state = "s_iter_20.solverstate" + (".h5" if hdf5 else "")
    losses, weights, smoothed = run(seed, hdf5)
    resumed_losses, resumed_weights, resumed_smoothed = run(seed, hdf5, resume=state)
    assert resumed_losses == losses[20:]
    np.testing.assert_array_equal(resumed_weights, weights)
    assert resumed_smoothed == smoothed


def test_same_seed_same_run(folder):
    first, second, other = run(7), run(7), run(8)
    assert first[0] == second[0]
    np.testing.assert_array_equal(first[1], second[1])
    assert first[0] != other[0]


def test_without_the_side_file_data_starts_again(folder):
    losses, _, _ = run(7)
    Path("s_iter_20.resume.json").unlink()
    resumed, _, _ = run(7, resume="s_iter_20.solverstate")
    assert len(resumed) == 20
    assert resumed != losses[20:]


def test_side_file_of_another_snapshot_is_left_alone(folder, capfd):
    run(7)
    data = json.loads(Path("s_iter_20.resume.json").read_text())
    Path("s_iter_20.resume.json").write_text(json.dumps({**data, "iter": 10}))
    run(7, resume="s_iter_20.solverstate")
    assert "s_iter_20.resume.json belongs to another snapshot" in capfd.readouterr().err


def test_damaged_side_file_is_reported(folder, capfd):
    run(7)
    Path("s_iter_20.resume.json").write_text("{")
    run(7, resume="s_iter_20.solverstate")
    assert "s_iter_20.resume.json cannot be read" in capfd.readouterr().err


@pytest.mark.parametrize(
    "change",
    [
        {"train_net": {"mnist": {"x": 1}, "drop1": {"key": 1, "next_start": 5}}},
        {"random": {"seed": "many", "count": 0}},
        {"losses": ["high"]},
        {"test_nets": 3},
    ],
)
def test_side_file_counts_whole_or_not_at_all(folder, change, capfd):
    run(7)
    path = Path("s_iter_20.resume.json")
    data = json.loads(path.read_text())
    path.unlink()
    without, _, _ = run(7, resume="s_iter_20.solverstate")
    path.write_text(json.dumps({**data, **change}))
    damaged, _, smoothed = run(7, resume="s_iter_20.solverstate")
    assert "s_iter_20.resume.json cannot be read" in capfd.readouterr().err
    assert damaged == without


def test_state_without_its_weights(folder):
    run(7)
    Path("s_iter_20.caffemodel").unlink()
    with pytest.raises(FatalError, match=r"File not found: s_iter_20.caffemodel .*belong to s_iter_20.solverstate"):
        run(7, resume="s_iter_20.solverstate")


def test_moved_folder(folder):
    losses, _, _ = run(7)
    Path("elsewhere").mkdir()
    for path in folder.glob("s_iter_20*"):
        path.rename(folder / "elsewhere" / path.name)
    resumed, _, _ = run(7, resume="elsewhere/s_iter_20.solverstate")
    assert resumed == losses[20:]


def test_copied_folder(folder):
    """The weights beside the state are its own, whatever has become of those that it was copied from."""
    losses, _, _ = run(7)
    Path("copy").mkdir()
    for path in folder.glob("s_iter_20*"):
        (folder / "copy" / path.name).write_bytes(path.read_bytes())
    Path("s_iter_20.caffemodel").write_bytes(Path("s_iter_40.caffemodel").read_bytes())
    resumed, _, _ = run(7, resume="copy/s_iter_20.solverstate")
    assert resumed == losses[20:]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nowhere.solverstate", "File not found: nowhere.solverstate"),
        ("s_iter_20.caffemodel", "holds weights, not the state of a solver.*--weights"),
    ],
)
def test_wrong_files(folder, name, words):
    run(7)
    with pytest.raises(FatalError, match=words):
        run(7, resume=name)


def test_state_of_another_solver_type(folder):
    run(7)
    Path("solver.prototxt").write_text(SOLVER % 7 + 'type: "Adam"')
    with pytest.raises(FatalError, match="Incorrect length of history blobs."):
        Solver(upgrade.read_solver("solver.prototxt")).restore("s_iter_20.solverstate")
