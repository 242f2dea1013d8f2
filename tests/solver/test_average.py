"""The moving average of weights: against the recursion in NumPy and against PyTorch, in tests and in snapshots."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from caffetools import upgrade
from caffetools.formats import blob as blob_format
from caffetools.glog import FatalError
from caffetools.layer import TEST, Context
from caffetools.net import load_net
from tests.solver.small_run import Recorder, lay_out, make_solver

DECAY = 0.9


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lay_out(tmp_path)


def weights_after_each_step(steps, test_interval=1000):
    solver = make_solver(f"ema_decay: {DECAY} test_interval: {test_interval} snapshot_after_train: false")
    history = [solver.net.param_data.copy()]
    for _ in range(steps):
        solver.step(1)
        history.append(solver.net.param_data.copy())
    solver.close()
    return solver, history


def test_recursion():
    solver, history = weights_after_each_step(30)
    expected = history[0].astype(np.float64)
    for t, weights in enumerate(history[1:]):
        d = min(DECAY, (1 + t) / (10 + t))
        expected = d * expected + (1 - d) * weights
    np.testing.assert_allclose(solver.average.values, expected, rtol=1e-5, atol=1e-7)
    assert not np.allclose(solver.average.values, history[-1], rtol=1e-3)


def test_average_of_torch():
    torch = pytest.importorskip("torch")
    from torch.optim.swa_utils import AveragedModel

    solver, history = weights_after_each_step(20)
    model = torch.nn.Linear(history[0].size, 1, bias=False)
    updates = iter(range(20))

    def average(old, new, _):
        t = next(updates)
        return torch.lerp(new, old, min(DECAY, (1 + t) / (10 + t)))

    averaged = AveragedModel(model, avg_fn=average)
    with torch.no_grad():
        model.weight[:] = torch.from_numpy(history[0])
        averaged.update_parameters(model)  # the first call copies
        for weights in history[1:]:
            model.weight[:] = torch.from_numpy(weights)
            averaged.update_parameters(model)
    np.testing.assert_allclose(solver.average.values, averaged.module.weight.detach().numpy()[0], rtol=1e-5, atol=1e-7)


def test_training_is_not_touched():
    _, averaged = weights_after_each_step(8, test_interval=2)
    plain = make_solver("test_interval: 2 snapshot_after_train: false")
    plain.step(8)
    plain.close()
    np.testing.assert_array_equal(plain.net.param_data, averaged[-1])


def accuracy_and_loss(weights, names, batches=4):
    """The outputs of the test net with other weights: an array laid out as param_data."""
    context = Context()
    net = load_net("net.prototxt", TEST, context)
    net.param_data[...] = weights
    sums = np.zeros(len(names))
    for _ in range(batches):
        net.forward()
        values = {name: value for name, value, _ in net.output_values()}
        sums += [values[name] for name in names]
    net.close()
    return (sums / batches).tolist()


@pytest.mark.parametrize("averaged", ["true", "false"])
def test_which_weights_are_tested(averaged):
    solver = make_solver(f"ema_decay: {DECAY} ema_test: {averaged} max_iter: 10 snapshot_after_train: false")
    recorder = Recorder()
    solver.listeners.append(recorder)
    solver.solve()
    solver.close()
    weights = solver.average.values if averaged == "true" else solver.net.param_data
    # 4 batches of 8 are the whole test set, in whatever order the passes come.
    expected = accuracy_and_loss(weights, ["accuracy", "loss"])
    assert [recorder.tests[10, 0][name] for name in ("accuracy", "loss")] == pytest.approx(expected, rel=1e-6)


def file_weights(name, net):
    """The parameters in a caffemodel, laid out as param_data."""
    result = np.zeros_like(net.param_data)
    layers = {layer.name: layer for layer in upgrade.read_net_binary(name).layer}
    for (layer, index), blob, start in zip(net.param_names, net.params, net.param_offsets, strict=True):
        result[start : start + blob.count] = blob_format.to_array(layers[layer].blobs[index]).ravel()
    return result


@pytest.mark.parametrize("averaged", ["true", "false"])
def test_what_snapshots_hold(averaged):
    solver = make_solver(f"ema_decay: {DECAY} ema_snapshot: {averaged} max_iter: 6")
    solver.solve()
    solver.close()
    names = ["s_iter_6.caffemodel", "s_iter_6.resume.caffemodel"]
    both = [solver.average.values, solver.net.param_data]
    for name, weights in zip(names, both if averaged == "true" else both[::-1], strict=True):
        np.testing.assert_array_equal(file_weights(name, solver.net), weights)


def test_without_the_rest_of_the_weights():
    solver = make_solver(f"ema_decay: {DECAY} max_iter: 6")
    solver.solve()
    solver.close()
    Path("s_iter_6.resume.caffemodel").unlink()
    with pytest.raises(FatalError, match="File not found: s_iter_6.resume.caffemodel"):
        make_solver(f"ema_decay: {DECAY} max_iter: 6").restore("s_iter_6.solverstate")


def test_average_that_is_no_longer_wanted():
    """A run that goes on without an average has the weights, not the average, that the snapshot leads with."""
    solver = make_solver(f"ema_decay: {DECAY} max_iter: 6")
    solver.solve()
    solver.close()
    other = make_solver()
    other.restore("s_iter_6.solverstate")
    other.close()
    np.testing.assert_array_equal(other.net.param_data, solver.net.param_data)


@pytest.mark.parametrize("decay", [1, -0.1, 1.5])
def test_decay_out_of_range(decay):
    with pytest.raises(FatalError, match="0 <= ema_decay < 1"):
        make_solver(f"ema_decay: {decay}")
