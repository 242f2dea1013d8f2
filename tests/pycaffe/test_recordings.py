"""The recordings of layers and solvers, driven as a script drives a net."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

import caffetools.pycaffe as caffe
from tests.recorded import GOLDEN

CLOSE = {"rtol": 1e-4, "atol": 1e-5}
LAYERS = sorted(path.stem for path in (GOLDEN / "layers").glob("*.npz"))
SOLVERS = sorted(path.stem for path in (GOLDEN / "solvers").glob("*.npz"))


def of_kind(recording, kind):
    """Return what a recording has under `kind/`, by the rest of the name."""
    return {
        key.removeprefix(f"{kind}/"): recording[key] for key in recording.files if key.startswith(f"{kind}/")
    }


def param(net, name):
    layer, index = name.rsplit("/", 1)
    return net.params[layer][int(index)]


@pytest.mark.parametrize("name", LAYERS)
def test_layer(name, tmp_path):
    recording = np.load(GOLDEN / "layers" / f"{name}.npz")
    (tmp_path / "net.prototxt").write_text(str(recording["prototxt"]))
    net = caffe.Net(str(tmp_path / "net.prototxt"), getattr(caffe, str(recording["phase"])))
    for key, values in of_kind(recording, "param").items():
        param(net, key).data[...] = values
    outputs = net.forward(blobs=list(of_kind(recording, "out")), **of_kind(recording, "in"))
    for blob, values in of_kind(recording, "out").items():
        np.testing.assert_allclose(outputs[blob], values, err_msg=blob, **CLOSE)
    for blob, values in of_kind(recording, "dout").items():
        net.blobs[blob].diff[...] = values
    net.clear_param_diffs()
    gradients = of_kind(recording, "din")
    if gradients or of_kind(recording, "dparam"):
        diffs = net.backward(diffs=list(gradients))
        for blob, values in gradients.items():
            np.testing.assert_allclose(diffs[blob], values, err_msg=blob, **CLOSE)
    for key, values in of_kind(recording, "dparam").items():
        np.testing.assert_allclose(param(net, key).diff, values, err_msg=key, **CLOSE)
    for key, values in of_kind(recording, "param_after").items():
        np.testing.assert_allclose(param(net, key).data, values, err_msg=key, **CLOSE)


@pytest.mark.parametrize("name", SOLVERS)
def test_solver(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recording = np.load(GOLDEN / "solvers" / f"{name}.npz")
    Path("solver.prototxt").write_text(str(recording["solver"]))
    Path("net.prototxt").write_text(str(recording["net"]))
    with h5py.File("d.h5", "w") as file:
        file["x"], file["label"] = recording["x"], recording["label"]
    Path("src.txt").write_text("d.h5\n")
    solver = caffe.get_solver("solver.prototxt")
    for key, values in of_kind(recording, "param/0").items():
        param(solver.net, key).data[...] = values
    for iteration in range(1, 7):
        solver.step(1)
        assert solver.iter == iteration
        for key, values in of_kind(recording, f"param/{iteration}").items():
            np.testing.assert_allclose(param(solver.net, key).data, values, err_msg=key, **CLOSE)


def test_there_are_recordings():
    assert (len(LAYERS), len(SOLVERS)) == (133, 13)
