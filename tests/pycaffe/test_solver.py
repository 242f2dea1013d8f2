"""Solvers as scripts use them."""

from __future__ import annotations

import gc
import os
import re
import weakref

import h5py
import numpy as np
import pytest

import caffetools.pycaffe as caffe
from tests.pycaffe.conftest import SMALL

SOLVER = """
net: "net.prototxt"
test_iter: 10 test_interval: 10
base_lr: 0.01 momentum: 0.9 weight_decay: 0.0005 lr_policy: "inv" gamma: 0.0001 power: 0.75
display: 100 max_iter: 20 snapshot_after_train: false snapshot_prefix: "model"
"""

CLASSES = {
    "SGD": caffe.SGDSolver,
    "Nesterov": caffe.NesterovSolver,
    "AdaGrad": caffe.AdaGradSolver,
    "RMSProp": caffe.RMSPropSolver,
    "AdaDelta": caffe.AdaDeltaSolver,
    "Adam": caffe.AdamSolver,
}


@pytest.fixture
def make(write):
    """Return a function that makes a solver of the small net."""
    write(SMALL)

    def make(more="", cls=caffe.SGDSolver):
        text = SOLVER
        for field in re.findall(r"(\w+):", more):  # a field that is given anew
            text = re.sub(rf"\b{field}: \S+", "", text)
        return cls(write(text + more, "solver.prototxt"))

    return make


def weights(solver):
    return [blob.data.copy() for blobs in solver.net.params.values() for blob in blobs]


def test_solve(make):
    solver = make()
    assert solver.iter == 0
    solver.solve()
    assert solver.iter == 20


def test_step(make):
    solver = make()
    solver.step(3)
    solver.step(4)
    assert solver.iter == 7


def test_nets(make):
    solver = make()
    assert isinstance(solver.net, caffe.Net)
    assert len(solver.test_nets) == 1
    assert solver.net is solver.net
    solver.step(1)  # tests first
    shared = solver.test_nets[0].params["ip"][0].data
    assert np.shares_memory(shared, solver.net.params["ip"][0].data)


@pytest.mark.parametrize(("kind", "cls"), CLASSES.items())
def test_get_solver(make, kind, cls):
    momentum = "momentum: 0" if kind in ("AdaGrad", "RMSProp") else ""
    solver = make(f'type: "{kind}" {momentum}', caffe.get_solver)
    assert type(solver) is cls
    solver.step(1)


def test_get_solver_with_an_old_enumeration(make):
    assert type(make("solver_type: NESTEROV", caffe.get_solver)) is caffe.NesterovSolver


def test_unknown_type(make):
    with pytest.raises(
        RuntimeError, match=r"Unknown solver type: Foo \(known types: AdaDelta, AdaGrad, Adam"
    ):
        make('type: "Foo"', caffe.get_solver)


def test_class_decides_whatever_the_file_says(make):
    """The first step of AdaGrad moves a weight by the rate times g / (|g| + 1e-8)."""
    solver = make('type: "Adam" momentum: 0 weight_decay: 0 lr_policy: "fixed"', caffe.AdaGradSolver)
    weight = solver.net.params["ip"][0]
    before, gradients = weight.data.copy(), []
    solver.add_callback(lambda: None, lambda: gradients.append(weight.diff.copy()))
    solver.step(1)
    (g,) = gradients
    np.testing.assert_allclose(before - weight.data, 0.01 * g / (np.abs(g) + 1e-8), rtol=1e-3, atol=1e-5)
    assert np.abs(before - weight.data).max() > 0.009


def test_apply_update(make):
    solver = make('momentum: 0 weight_decay: 0 lr_policy: "fixed"')
    solver.net.forward()
    solver.net.clear_param_diffs()
    solver.net.backward()
    before, gradient = solver.net.params["ip"][0].data.copy(), solver.net.params["ip"][0].diff.copy()
    solver.apply_update()
    np.testing.assert_allclose(
        solver.net.params["ip"][0].data, before - 0.01 * gradient, rtol=1e-5, atol=1e-7
    )
    assert solver.iter == 0


def test_apply_update_without_a_gradient_keeps_the_weights(make):
    solver = make("weight_decay: 0")
    before = weights(solver)
    solver.net.clear_param_diffs()
    solver.apply_update()
    for mine, old in zip(weights(solver), before, strict=True):
        np.testing.assert_array_equal(mine, old)


def test_learning_rate(make):
    solver = make()
    assert solver.lr == pytest.approx(0.01)
    solver.step(10)
    assert solver.lr == pytest.approx(0.01 * (1 + 0.0001 * 10) ** -0.75)


def test_settings(make):
    solver = make()
    param = solver.param
    assert (param.max_iter, param.display, param.layer_wise_reduce) == (20, 100, True)


def test_rate_is_changed_between_steps(make):
    solver = make('lr_policy: "fixed"')
    solver.step(1)
    solver.param.base_lr = 0
    solver.net.clear_param_diffs()
    assert solver.lr == 0
    solver.param.momentum = 0
    before = weights(solver)
    solver.step(2)
    for mine, old in zip(weights(solver), before, strict=True):
        np.testing.assert_array_equal(mine, old)


def test_callbacks(make):
    solver = make()
    calls = []
    solver.add_callback(lambda: calls.append("start"), lambda: calls.append("gradients"))
    solver.net.before_forward(lambda i: calls.append("forward") if i == 0 else None)
    solver.net.after_backward(lambda i: calls.append("backward") if i == 0 else None)
    solver.step(2)
    assert calls == ["start", "forward", "backward", "gradients"] * 2


def test_callback_may_change_the_gradients(make):
    solver = make("weight_decay: 0")
    before = weights(solver)
    solver.add_callback(lambda: None, solver.net.clear_param_diffs)
    solver.step(1)
    for mine, old in zip(weights(solver), before, strict=True):
        np.testing.assert_array_equal(mine, old)


def test_share_weights(make):
    solver = make()
    other = caffe.Net("net.prototxt", caffe.TEST)
    solver.share_weights(other)
    solver.step(2)
    for name in ("conv", "ip"):
        for mine, theirs in zip(other.params[name], solver.net.params[name], strict=True):
            np.testing.assert_array_equal(mine.data, theirs.data)


@pytest.mark.parametrize("suffix", ["", ".h5"])
def test_snapshot_and_restore(make, suffix):
    more = 'snapshot_format: HDF5 lr_policy: "fixed"' if suffix else 'lr_policy: "fixed"'
    solver = make(more)
    solver.step(4)
    solver.snapshot()
    for file in (f"model_iter_4.caffemodel{suffix}", f"model_iter_4.solverstate{suffix}"):
        assert os.path.getsize(file) > 0
    other = make(more)
    other.restore(f"model_iter_4.solverstate{suffix}")
    assert other.iter == 4
    for mine, old in zip(weights(other), weights(solver), strict=True):
        np.testing.assert_array_equal(mine, old)
    third = make(more)
    third.solve(f"model_iter_4.solverstate{suffix}")
    assert third.iter == 20


def test_snapshots_of_a_run(make):
    make("snapshot: 10 snapshot_after_train: true").solve()
    files = sorted(name for name in os.listdir() if name.startswith("model_") and "resume" not in name)
    assert files == [f"model_iter_{i}.{kind}" for i in (10, 20) for kind in ("caffemodel", "solverstate")]


def test_missing_state(make):
    with pytest.raises(RuntimeError, match="File not found: gone.solverstate"):
        make().restore("gone.solverstate")


@pytest.mark.parametrize("cls", [caffe.SGDSolver, caffe.get_solver])
def test_missing_solver_file(cls):
    with pytest.raises(RuntimeError, match="gone.prototxt"):
        cls("gone.prototxt")


def test_nets_outlive_the_solver(make):
    solver = make()
    solver.step(1)
    net, test_net = solver.net, solver.test_nets[0]
    gone = weakref.ref(solver._solver)
    del solver
    gc.collect()
    assert gone() is None
    for survivor in (net, test_net):
        survivor.forward()
    net.backward()
    assert np.isfinite(net.blobs["loss"].data)


def test_random_seed_of_the_file(make):
    first, second = (weights(make("random_seed: 5")) for _ in range(2))
    for mine, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(mine, other)


def test_resumed_run_goes_on_with_its_data(write):
    """A snapshot within a shuffled pass: the rest gives the same weights as without an interruption."""
    with h5py.File("d.h5", "w") as file:
        file["x"] = np.random.default_rng(1).random((7, 3), np.float32)
        file["y"] = np.random.default_rng(2).random((7, 2), np.float32)
    write("d.h5\n", "list.txt")
    write("""
        layer {
          type: "HDF5Data" name: "data" top: "x" top: "y"
          hdf5_data_param { source: "list.txt" batch_size: 3 shuffle: true }
        }
        layer {
          type: "InnerProduct" name: "ip" bottom: "x" top: "ip"
          inner_product_param { num_output: 2 weight_filler { type: "xavier" } }
        }
        layer { type: "EuclideanLoss" name: "loss" bottom: "ip" bottom: "y" top: "loss" }
    """)
    settings = 'net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" momentum: 0.9 snapshot_prefix: "model"'
    solver = caffe.SGDSolver(write(settings, "solver.prototxt"))
    solver.step(4)
    solver.snapshot()
    solver.step(5)
    other = caffe.SGDSolver("solver.prototxt")
    other.step(1)
    other.restore("model_iter_4.solverstate")
    other.step(5)
    for mine, theirs in zip(weights(other), weights(solver), strict=True):
        np.testing.assert_array_equal(mine, theirs)
