"""Nets whose blobs share memory: every layer must find what it would find if each blob had memory of its own.

The planner is not asked whether it is right: a net with a plan runs step by step beside one without, and whatever a
layer may read is compared bit by bit before the layer runs. (That layers read no more than they declare is shown in
test_backward_reads.py.)
"""

from __future__ import annotations

import numpy as np
import pytest
from google.protobuf import text_format

from caffetools.glog import FatalError
from caffetools.layer import TEST, TRAIN, Context
from caffetools.layers import concat, split
from caffetools.net import load_net
from caffetools.net.memory_plan import place
from caffetools.proto import caffe_pb2
from caffetools.pycaffe import solver as pycaffe_solver
from caffetools.solver import Solver
from tests.net.planned_nets import (
    LOSS,
    NETS,
    assert_same,
    build,
    choose_alike,
    definition,
    feed,
    layers,
    model,
    train_alike,
    twins,
)

MODELS = {
    "lenet/lenet_train_test": (1, 28, 28),
    "cifar10_quick/cifar10_quick_train_test": (3, 32, 32),
    "cifar10_full/cifar10_full_train_test": (3, 32, 32),
    "mnist_siamese/mnist_siamese_train_test": (2, 28, 28),
    "squeezenet_v1.1/train_val": (3, 65, 65),
}


def compare_forward(planned, plain, i):
    for j, (one, other) in enumerate(zip(planned.bottoms[i], plain.bottoms[i], strict=True)):
        assert_same(one.data, other.data, f"data of bottom {j} of {planned.layer_names[i]}")


def compare_backward(planned, plain, i):
    """Compare what a layer declares to read and keeps, and the diffs of its tops."""
    layer, twin = planned.layers[i], plain.layers[i]
    ends = {"bottom": (planned.bottoms[i], plain.bottoms[i]), "top": (planned.tops[i], plain.tops[i])}
    for end, blobs in ends.items():
        for j, (one, other) in enumerate(zip(*blobs, strict=True)):
            if end in layer.backward_reads or f"{end}[{j}]" in layer.backward_reads:
                assert_same(one.data, other.data, f"data of {end} {j} of {layer.name}, backward")
    for one, other in zip(layer.kept(), twin.kept(), strict=True):
        assert_same(one.data, other.data, f"what {layer.name} keeps")
    for j, (one, other) in enumerate(zip(*ends["top"], strict=True)):
        assert_same(one.diff, other.diff, f"diff of top {j} of {layer.name}")


def run_in_lockstep(planned, plain, backward=True):
    """Run both nets layer by layer, and compare all that a layer may read."""
    steps = range(len(planned.layers))
    for i in steps:
        compare_forward(planned, plain, i)
        assert planned.forward_layer(i) == plain.forward_layer(i)
    for i in reversed(steps if backward else ()):
        if planned.layer_needs_backward[i]:
            compare_backward(planned, plain, i)
            planned.backward_layer(i)
            plain.backward_layer(i)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("text", NETS.values(), ids=NETS)
def test_a_layer_finds_what_it_finds_without_a_plan(text, batch):
    planned, plain = twins(definition(text + LOSS, batch))
    for iteration in range(2):
        for net in (planned, plain):
            feed(net, iteration)
            net.clear_param_diffs()
        run_in_lockstep(planned, plain)
        assert_same(planned.param_diff, plain.param_diff, "gradients")


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("text", NETS.values(), ids=NETS)
def test_whole_passes_with_layers_that_run_as_one(text, batch):
    train_alike(*twins(definition(text + LOSS, batch)))


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("text", NETS.values(), ids=NETS)
def test_in_use(text, batch):
    planned, plain = twins(definition(text, batch, TEST))
    for iteration in range(2):
        for net in (planned, plain):
            feed(net, iteration)
            net.forward()
        assert "last" in planned.outputs
        for name in planned.outputs:
            assert_same(planned.blobs[name].data, plain.blobs[name].data, name)
        run_in_lockstep(planned, plain, backward=False)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("name", MODELS)
def test_models(name, batch):
    planned, plain = twins(model(name, MODELS[name], batch))
    train_alike(planned, plain)
    plan = planned.memory_plan
    assert plan.bytes < 0.6 * plan.unshared_bytes


def live_bytes(net, backward):
    """The most that is needed at any one time, counted layer by layer from what is read again."""
    last_read: dict[int, int] = {}
    steps = [(i, False) for i in range(len(net.layers))]
    steps += [(i, True) for i in reversed(range(len(net.layers))) if backward and net.layer_needs_backward[i]]
    written: dict[int, tuple[int, int]] = {}

    def touch(storage, count, now):
        first, size = written.get(id(storage), (now, 0))
        written[id(storage)] = first, max(size, count)
        last_read[id(storage)] = now

    for now, (i, back) in enumerate(steps):
        layer = net.layers[i]
        for j, blob in enumerate(net.bottoms[i]):
            if not back or "bottom" in layer.backward_reads or f"bottom[{j}]" in layer.backward_reads:
                touch(blob.data_storage, blob.count, now)
            if back and net.bottom_needs_backward[i][j]:
                touch(blob.diff_storage, blob.count, now)
        for j, blob in enumerate(net.tops[i]):
            if not back or "top" in layer.backward_reads or f"top[{j}]" in layer.backward_reads:
                touch(blob.data_storage, blob.count, now)
            if back:
                touch(blob.diff_storage, blob.count, now)
        for blob in layer.kept():
            touch(blob.data_storage, blob.count, now)
    return max(
        sum(4 * size for key, (first, size) in written.items() if first <= now <= last_read[key])
        for now in range(len(steps))
    )


@pytest.mark.parametrize("phase", [TRAIN, TEST])
@pytest.mark.parametrize("name", MODELS)
def test_hardly_more_than_what_is_needed_at_one_time(name, phase):
    net = build(model(name, MODELS[name], 4, phase))
    plan = net.memory_plan
    inputs = plan.fixed_bytes  # these stay throughout
    assert plan.bytes < 1.15 * live_bytes(net, phase == TRAIN) + inputs


@pytest.mark.parametrize("seed", range(20))
def test_placed_arrays_meet_only_in_memory_or_in_time(seed):
    random = np.random.default_rng(seed)
    count = int(random.integers(1, 60))
    sizes = random.integers(1, 2000, count).tolist()
    spans = [tuple(sorted(pair)) for pair in random.integers(0, 30, (count, 2)).tolist()]
    starts, total = place(sizes, spans)
    needed = max(sum(s for s, (a, b) in zip(sizes, spans, strict=True) if a <= t <= b) for t in range(30))
    assert needed <= total <= sum(-(-size // 64) * 64 for size in sizes)
    for i in range(count):
        assert starts[i] % 64 == 0
        assert starts[i] >= 0 and starts[i] + sizes[i] <= total
        for j in range(i):
            in_time = spans[i][0] <= spans[j][1] and spans[j][0] <= spans[i][1]
            in_memory = starts[i] < starts[j] + sizes[j] and starts[j] < starts[i] + sizes[i]
            assert not (in_time and in_memory), (i, j)


def test_nothing_to_place():
    assert place([], []) == ([], 0)


@pytest.fixture
def no_copies(monkeypatch):
    """Fail where Concat or Slice copies."""
    monkeypatch.setattr(concat, "copy_columns", lambda *_: pytest.fail("something was copied"))


@pytest.mark.parametrize(
    ("name", "batch"),
    [("inception", 1), ("dense block", 1), ("slices that stay", 1), ("the batch as axis", 1), ("the batch as axis", 3)],
)
def test_concat_and_slice_copy_nothing_where_parts_are_pieces(name, batch, no_copies):
    net = build(definition(NETS[name] + LOSS, batch))
    feed(net, 0)
    net.forward()
    net.backward()


def test_the_bottoms_of_concat_lie_in_its_top():
    net = build(definition(NETS["inception"] + LOSS, 1))
    whole, part = net.blobs["ab"], net.blobs["b"]
    feed(net, 0)
    net.forward()
    assert np.shares_memory(part.data, whole.data[:, 4:7])
    assert np.shares_memory(part.diff, whole.diff[:, 4:7])


def test_the_gradient_of_a_split_blob_begins_as_that_of_its_last_consumer(monkeypatch):
    add_up, starts = split.add_up, []
    monkeypatch.setattr(split, "add_up", lambda start, *rest: starts.append(start.size) or add_up(start, *rest))
    net = build(definition(NETS["five copies"] + LOSS, 2))
    feed(net, 0)
    net.forward()
    net.backward()
    # There is nothing to start from: it is there. First come the two copies of fc, then five of a, three at once.
    assert starts == [0, 0, 0]


def test_what_a_user_asks_for_is_kept():
    param = definition(NETS["inception"], 2, TEST)
    planned, plain = build(param, keep=["b", "ab"]), build(param, plan=False)
    for net in (planned, plain):
        feed(net, 1)
        net.forward()
    for name in ("b", "ab", "last"):
        assert_same(planned.blobs[name].data, plain.blobs[name].data, name)


def test_loss_weights_stay():
    net = build(definition(NETS["chain"] + LOSS, 2))
    for seed in range(3):
        feed(net, seed)
        net.forward()
        net.backward()
    assert net.blobs["loss"].diff == np.float32(0.7)


@pytest.mark.parametrize("batches", [(2, 5, 5, 3, 7), (1, 4, 1)])
def test_other_shapes_between_passes(batches):
    planned, plain = twins(definition(NETS["inception"] + LOSS, 2))
    for batch in batches:
        for net in (planned, plain):
            net.blobs["data"].reshape((batch, 2, 6, 6))
            net.blobs["label"].reshape((batch,))
            net.reshape()
        train_alike(planned, plain, 1)
        assert planned.memory_plan is not None


def test_shapes_that_change_within_a_pass_end_the_plan():
    text = (
        "conv4: data > a; ReLU: a > a; labelled: a label label > b chosen; Silence: chosen > ;"
        "conv4: b > c; conv4: b > d; stack: c d > e; energy: e > sum"
    )
    planned, plain = twins(definition(text, 4))
    choose_alike(planned, plain)
    assert planned.memory_plan is None


def solver_param(text=NETS["inception"], **fields):
    param = caffe_pb2.SolverParameter(
        base_lr=0.01, momentum=0.9, lr_policy="fixed", random_seed=1, test_iter=[2], test_interval=2, **fields
    )
    made_up = """layer { name: "data" type: "DummyData" top: "data" top: "label" dummy_data_param {
        shape { dim: 3 dim: 2 dim: 6 dim: 6 } shape { dim: 3 }
        data_filler { type: "gaussian" } data_filler { type: "constant" value: 1 } } }"""
    param.net_param.CopyFrom(text_format.Parse(made_up + layers(text + LOSS), caffe_pb2.NetParameter()))
    return param


def test_a_solver_learns_the_same():
    planned, plain = Solver(solver_param(), plan=True), Solver(solver_param(), plan=True)
    assert all(net.unplan() for net in (plain.net, *plain.test_nets))
    for solver in (planned, plain):
        solver.step(4)
    assert planned.losses == plain.losses
    assert_same(planned.net.param_data, plain.net.param_data, "parameters")


def test_nets_that_others_look_into_have_no_plan():
    assert Solver(solver_param(debug_info=True), plan=True).net.memory_plan is None
    assert Solver(solver_param()).net.memory_plan is None
    param = definition(NETS["chain"], 2)
    assert load_net(param, TRAIN, Context()).memory_plan is None
    param.debug_info = True
    assert build(param).memory_plan is None


def test_the_first_values_that_are_not_finite_are_named_though_they_are_gone():
    solver = Solver(solver_param("conv4: data > a; bad: a > broken; conv4: broken > b; conv4: b > last"), plan=True)
    with pytest.raises(FatalError, match=r"blob 'broken' made by layer '1 bad' \(Log\)"):
        solver.step(1)


def test_memory_is_told_with_and_without_a_plan():
    param = definition(NETS["chain"] + LOSS, 2)
    planned, plain = build(param).memory(), build(param, plan=False).memory()
    assert set(plain) == {"data", "diffs", "parameters"}
    assert set(planned) == {"data and diffs", "parameters"}
    assert planned["data and diffs"] < plain["data"] + plain["diffs"]
    assert planned["parameters"] == plain["parameters"]


def test_pycaffe_solvers_show_every_blob(tmp_path):
    path = tmp_path / "solver.prototxt"
    path.write_text(text_format.MessageToString(solver_param()))
    solver = pycaffe_solver.SGDSolver(str(path))
    solver.step(1)
    parts = [solver.net.blobs[name].data for name in "abc"]
    np.testing.assert_array_equal(solver.net.blobs["ab"].data, np.concatenate(parts, 1))
