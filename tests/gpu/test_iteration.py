"""A training iteration in its steady state: nothing is allocated, copied or waited for."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest

from caffetools.glog import FatalError
from caffetools.proto import caffe_pb2
from caffetools.solver import Solver
from tests.gpu.nets import CLASSIFIER, classifier

NOTHING = {"allocations": 0, "uploads": 0, "downloads": 0, "synchronisations": 0}


def iteration(net):
    net.clear_param_diffs()
    loss = net.forward()
    net.backward()
    return loss


def test_passes_equal_the_cpu(engine):
    here, there = classifier(engine), classifier()
    assert float(iteration(here)) == pytest.approx(iteration(there), rel=1e-5)
    np.testing.assert_allclose(here.flat_diff.read_host(), there.param_diff, rtol=1e-4, atol=1e-6)
    here.update()
    there.update()
    np.testing.assert_allclose(here.flat_data.read_host(), there.param_data, rtol=1e-4, atol=1e-6)


def test_steady_passes_cost_nothing_else(engine):
    net = classifier(engine)
    for _ in range(2):
        iteration(net)
    engine.counters.reset()
    for _ in range(3):
        iteration(net)
        net.update()
    assert asdict(engine.counters) == NOTHING


@pytest.mark.parametrize(
    "fields", [{}, {"clip_gradients": 0.01}, {"type": "Adam", "momentum": 0.9}, {"iter_size": 2}], ids=str
)
def test_steady_steps_of_a_solver(fields, engine):
    param = caffe_pb2.SolverParameter(base_lr=0.1, lr_policy="fixed", max_iter=100, random_seed=1)
    param.net_param.MergeFrom(text_net())
    for name, value in fields.items():
        setattr(param, name, value)
    solver = Solver(param, engine=engine)
    solver.net.blobs["x"].data[...] = 1
    solver.step(2)
    engine.counters.reset()
    solver.step(6)
    assert asdict(engine.counters) == NOTHING
    assert solver.smoothed_loss > 0


def text_net():
    from caffetools.formats import prototxt

    return prototxt.parse(CLASSIFIER, caffe_pb2.NetParameter)


def test_a_run_goes_on_from_a_snapshot_after_a_loss_that_is_not_finite(engine, tmp_path):
    param = caffe_pb2.SolverParameter(base_lr=0.1, lr_policy="fixed", snapshot_prefix=str(tmp_path / "s"))
    param.net_param.MergeFrom(text_net())
    solver = Solver(param, engine=engine)
    inputs = solver.net.blobs["x"]
    inputs.data[...] = 1
    solver.snapshot()
    inputs.data[...] = np.nan
    with pytest.raises(FatalError, match="Iteration 0: the loss is nan"):
        solver.step(9)
    inputs.data[...] = 1
    solver.restore(str(tmp_path / "s_iter_0.solverstate"))
    solver.step(4)
    assert np.isfinite(solver.smoothed_loss)


def test_the_end_of_a_run_looks_at_all_losses(engine):
    param = caffe_pb2.SolverParameter(base_lr=0.1, lr_policy="fixed", max_iter=1, snapshot_after_train=False)
    param.net_param.MergeFrom(text_net())
    solver = Solver(param, engine=engine)
    solver.net.blobs["x"].data[...] = np.nan
    with pytest.raises(FatalError, match="Iteration 0: the loss is nan"):
        solver.solve()


def test_a_layer_without_kernels_runs_on_the_host(engine, capfd):
    text = CLASSIFIER + 'layer { name: "a" type: "ArgMax" bottom: "score" top: "a" }'
    net = classifier(engine, text)
    net.forward()
    assert net.blobs["a"].cpu_data.ravel().tolist() == net.blobs["score"].cpu_data.argmax(1).tolist()


def test_a_layer_may_show_host_memory_of_its_own(engine, monkeypatch):
    net = classifier(engine, CLASSIFIER + 'layer { name: "a" type: "ArgMax" bottom: "score" top: "a" }')
    from caffetools.blob import Blob
    from caffetools.net import twins

    layer = net.layers[-1]
    shown, spare = Blob(net.blobs["a"].shape), [net.context.blob()]
    monkeypatch.setattr(layer, "forward", lambda bottom, top: top[0].share_data(shown))
    for value in (1, 2):
        shown.data[...] = value
        twins._forward_on_host(layer, spare, net.bottoms[-1], net.tops[-1])
        assert net.blobs["a"].gpu_data.copy_to_host().tolist() == [value] * shown.count


def test_a_label_that_is_no_class_is_refused(engine):
    net = classifier(engine)
    net.blobs["label"].data[2] = 3
    loss = net.forward()
    with pytest.raises(FatalError, match="label 3 at index 2 of the batch is not one of the classes 0 to 2"):
        float(loss)
    # The other loss has it as well, and says so at the next look: here, not in another test.
    with pytest.raises(FatalError, match="label 3 at index 2 of the batch"):
        engine.settle()
