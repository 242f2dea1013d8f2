"""LeNet, trained on the device as models/lenet says, knows 99 % of MNIST's test pictures. It takes a minute or so."""

from __future__ import annotations

from pathlib import Path

import numba
import pytest

from caffetools import upgrade
from caffetools.solver import Solver
from caffetools.tools import convert_mnist_data

ROOT = Path(__file__).parents[2]
MNIST = ROOT / "data" / "mnist"
SETS = {"train": "train", "test": "t10k"}


def lenet_solver(folder: Path, engine=None) -> Solver:
    """Return the solver of models/lenet on databases that are made in a folder."""
    net = upgrade.read_net_text(ROOT / "models/lenet/lenet_train_test.prototxt")
    for layer in net.layer:
        name = Path(layer.data_param.source).name
        if name:
            layer.data_param.source = str(folder / name)
    for name, prefix in SETS.items():
        files = (str(MNIST / f"{prefix}-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1"))
        convert_mnist_data.convert(*files, str(folder / f"mnist_{name}_lmdb"))
    param = upgrade.read_solver(ROOT / "models/lenet/lenet_solver.prototxt")
    param.ClearField("net")
    param.net_param.CopyFrom(net)
    param.snapshot = 0
    param.random_seed = 1
    return Solver(param, engine=engine)


@pytest.mark.slow
@pytest.mark.gpu
@pytest.mark.skipif(bool(numba.config.ENABLE_CUDASIM), reason="the simulator would take weeks")
@pytest.mark.skipif(not (MNIST / "train-images-idx3-ubyte").exists(), reason="run data/mnist/get_mnist.sh first")
def test_lenet_learns_to_read(tmp_path, engine):
    solver = lenet_solver(tmp_path, engine)
    solver.step(10_000)
    accuracy = {name: value for name, value, _ in solver.test()}["accuracy"]
    solver.close()
    assert accuracy >= 0.99
