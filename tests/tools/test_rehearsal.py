"""`--dry_run`: what it finds in data, labels, gradients and settings, and that it leaves nothing behind."""

from __future__ import annotations

import re
from pathlib import Path

import h5py
import numpy as np
import pytest

from caffetools.formats import datum, idx
from caffetools.formats.db import open_db
from caffetools.tools.train import train
from tests.recorded import FORMATS, run_tool
from tests.solver.small_run import NET, lay_out, solver_param


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lay_out(tmp_path)
    return tmp_path


def rehearse(capfd, more="", net=None, changes=(), batches=50):
    """Return the exit status and the log of a dry run."""
    Path("solver.prototxt").write_text(str(solver_param(more)))
    if net:
        Path("net.prototxt").write_text(net)
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*") if path.is_file()}
    status = train("solver.prototxt", changes=changes, dry_run=batches)
    assert {path: path.stat().st_mtime_ns for path in Path().rglob("*") if path.is_file()} == before
    return status, capfd.readouterr().err


def verdict(log):
    """The last word of a dry run; lines of the threads that read data may come after it."""
    return re.findall(r"\] Dry run: (.*)$", log, re.MULTILINE)[-1]


def pixels(name, count):
    """The digits of the recorded database as the net sees them, from the files it was made of."""
    images = idx.read_images(FORMATS / f"{name}-images-idx3-ubyte")[:count, 2:26, 2:26]
    return images.astype(np.float64) / 256


def test_ready(capfd):
    status, log = rehearse(capfd)
    assert status == 0
    assert verdict(log) == "ready to train"
    tested = pixels("t10k", 32)
    expected = (
        f"4 batches of 'data' 8 1 24 24 (4608): from {tested.min():g} to {tested.max():g}, mean {tested.mean():.3g}, "
        f"standard deviation {tested.std():.3g}"
    )
    assert expected in log
    labels = idx.read_labels(FORMATS / "t10k-labels-idx1-ubyte")[:32]
    seen = f"32 labels from {labels.min()} to {labels.max()}, {len(set(labels))} of the classes occur"
    assert f"(Accuracy, 10 classes): {seen}" in log
    assert re.search(r"Dry run: [\d.]+ MiB in all; [\d,]+ MiB are free", log)
    assert re.search(r"an iteration takes about \S+ s, the rest of the run about ", log)
    assert re.search(r"train net: loss = [\d.]+", log)


def test_fewer_batches(capfd):
    _, log = rehearse(capfd, batches=2)
    assert "test net #0: 2 batches of 'data'" in log


def test_labels_without_an_output(capfd):
    labels = idx.read_labels(FORMATS / "t10k-labels-idx1-ubyte")[:32]
    outside = labels[labels >= 5]
    status, log = rehearse(capfd, changes=["net.layer[ip1].inner_product_param.num_output=5"])
    assert status == 1
    shown = ", ".join(map(str, sorted(set(outside))))
    assert f"(Accuracy, 5 classes): {len(outside)} of 32 labels are not one of 0 to 4: {shown}" in log
    assert verdict(log) == "NOT ready to train, 3 problems"


def test_ignored_labels_are_no_problem(capfd):
    net = NET.replace('top: "loss" }', 'top: "loss" loss_param { ignore_label: 9 } }')
    net = net.replace("num_output: 10", "num_output: 9").replace(
        'top: "accuracy" ', 'top: "accuracy" accuracy_param { ignore_label: 9 } '
    )
    assert rehearse(capfd, net=net)[0] == 0


def test_data_that_are_not_finite(capfd):
    data = np.zeros((12, 1, 24, 24), "f4")
    data[3, 0, 0, :2] = np.nan, np.inf
    with h5py.File("rows.h5", "w") as file:
        file["data"], file["label"] = data, np.arange(12, dtype="f4") % 10
    Path("list.txt").write_text("rows.h5\n")
    start = NET.index("layer")
    end = NET.index('layer { name: "mnist" type: "Data" top: "data" top: "label" include { phase: TEST')
    rows = """layer { name: "rows" type: "HDF5Data" top: "data" top: "label" include { phase: TRAIN }
      hdf5_data_param { source: "list.txt" batch_size: 12 } }\n"""
    status, log = rehearse(capfd, net=NET[:start] + rows + NET[end:])
    assert status == 1
    assert "train net: 'data' (layer 'rows'): 2 of 6912 values are not finite" in log


def test_values_that_were_not_scaled(capfd):
    status, log = rehearse(capfd, changes=["net.layer[mnist].transform_param.scale=1"])
    assert status == 0
    assert re.search(r"'data' \(layer 'mnist'\): values from 0 to 2\d\d: a scale and a mean usually keep", log)
    assert "ready to train, with " in log


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([4] * 24, "all labels that were seen are the same: is the data sorted?"),
        ([2] * 8 + [5] * 8 + [9] * 8, "the labels come in their order: the data is sorted"),
        ([2] * 8 + [9] * 8 + [5] * 7 + [2], None),
        ([0, 1, 2, 3, 4, 5, 6, 7] * 3, None),
    ],
)
def test_sorted_data(labels, words, capfd):
    with open_db("lmdb", "ordered", "new") as db:
        for i, label in enumerate(labels):
            value = datum.from_array(np.full((1, 28, 28), i, np.uint8), label).SerializeToString()
            db.put(b"%08d" % i, value)
        db.commit()
    _, log = rehearse(capfd, net=NET.replace("mnist_train_lmdb", "ordered"))
    hints = re.findall(r"train net: labels of layer 'loss' \(SoftmaxWithLoss, 10 classes\): (.*sorted.*)", log)
    assert len(hints) == bool(words)
    assert all(hint.startswith(words) for hint in hints)


def test_parameters_that_get_no_gradient(capfd):
    dead = 'weight_filler { type: "constant" value: -1 } bias_filler { type: "constant" value: -1 }'
    net = NET.replace('kernel_size: 5 stride: 2 weight_filler { type: "xavier" }', f"kernel_size: 5 stride: 2 {dead}")
    _, log = rehearse(capfd, net=net)
    assert "parameters whose gradient is zero, and which do not learn: 'conv1'[0], 'conv1'[1]" in log


def test_weights_that_are_too_large(capfd):
    large = 'weight_filler { type: "gaussian" std: 30 }'
    net = NET.replace('num_output: 10 weight_filler { type: "xavier" }', f"num_output: 10 {large}")
    _, log = rehearse(capfd, net=net)
    assert re.search(r"the loss is \S+, that of 10 classes at even odds 2.3: the weights or the data are large", log)


def test_settings_are_warned_of(capfd):
    status, log = rehearse(capfd, "momentum: 1.5 test_iter: 1")
    assert status == 0
    assert "Dry run: momentum is 1.5" in log
    assert "Dry run: test_iter 1 of test net #0 sees 8 of the 32 samples" in log


def test_layers_that_write_are_left_out(capfd):
    net = NET + """layer { name: "out" type: "HDF5Output" bottom: "ip1" bottom: "label" include { phase: TRAIN }
      hdf5_output_param { file_name: "out.h5" } }"""
    status, log = rehearse(capfd, net=net)
    assert status == 0
    assert "without layer 'out' (HDF5Output), which writes files" in log


def test_command(capfd):
    Path("solver.prototxt").write_text(str(solver_param()))
    result = run_tool("caffe", "train", "--solver=solver.prototxt", "--dry_run", "--iterations=1", cwd=Path.cwd())
    assert result.returncode == 0
    assert "1 batches of" in result.stderr
    changed = "net.layer[ip1].inner_product_param.num_output=2"
    result = run_tool("caffe", "train", "--solver=solver.prototxt", "--dry_run", "--set", changed, cwd=Path.cwd())
    assert result.returncode == 1
    assert sorted(path.name for path in Path().iterdir()) == [
        "mnist_t10k_lmdb", "mnist_train_lmdb", "net.prototxt", "solver.prototxt",
    ]  # fmt: skip
