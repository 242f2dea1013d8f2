"""Several GPUs in the simulator: means of gradients, the pieces of their buffer, and what they cost."""

from __future__ import annotations

import threading
from dataclasses import asdict

import numba
import numpy as np
import pytest

from tests.gpu.nets import CLASSIFIER, classifier
from tests.gpu.order import Order, address_of
from tests.gpu.test_fused import net_of
from tests.gpu.test_iteration import NOTHING, iteration
from tests.groups import connected

SHARED = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 4 dim: 6 } } }
layer { name: "label" type: "Input" top: "label" input_param { shape { dim: 4 } } }
layer { name: "ip1" type: "InnerProduct" bottom: "x" top: "a" param { name: "w" } param { name: "b" }
        inner_product_param { num_output: 6 weight_filler { type: "xavier" } } }
layer { name: "ip2" type: "InnerProduct" bottom: "a" top: "b"
        inner_product_param { num_output: 6 weight_filler { type: "xavier" } } }
layer { name: "ip3" type: "InnerProduct" bottom: "b" top: "score" param { name: "w" } param { name: "b" }
        inner_product_param { num_output: 6 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" }
"""
FROZEN = CLASSIFIER.replace(
    'name: "ip1" type: "InnerProduct"',
    'name: "ip1" type: "InnerProduct" param { lr_mult: 0 } param { lr_mult: 0 }',
)
#: No loss depends on the owner of the parameters, only on who shares them.
OWNER_WITHOUT_LOSS = SHARED.replace('bottom: "a" top: "b"', 'bottom: "x" top: "b"')
# The classifier's parameters: ip1 48 + 8, ip2 24 + 3, ip3 24 + 3, each at a multiple of 16.
IP1, IP2, IP3 = (0, 64), (64, 112), (112, 160)


@pytest.fixture
def groups():
    """Two groups that are connected: rank 0 is for the test, rank 1 for a thread."""
    with connected(2) as found:
        yield found


@pytest.mark.parametrize(
    ("text", "least", "expected"),
    [
        (CLASSIFIER, 1, [("ip3", *IP3), ("ip2", *IP2), ("ip1", *IP1)]),
        (CLASSIFIER, 200, [("ip2", 64, 160), ("ip1", *IP1)]),
        (CLASSIFIER, 1 << 20, [("ip1", 0, 160)]),
        (FROZEN, 1 << 20, [("ip2", 64, 160)]),
        (SHARED, 1, [("ip2", 64, 128), ("ip1", 0, 64)]),
        (OWNER_WITHOUT_LOSS, 1, [("ip2", 64, 128), ("ip1", 0, 64)]),
    ],
    ids=[
        *("each layer", "two layers", "one piece", "without a layer that learns nothing"),
        *("shared by layers", "shared, the owner without a loss"),
    ],
)
def test_pieces(text, least, expected, engine):
    from caffetools.solver.exchange_cu import parts

    net = classifier(engine, text)
    assert [(net.layer_names[p.layer], p.start, p.stop) for p in parts(net, least)] == expected


def counting(exchange, group):
    """Let a stand-in for means note the sizes, in the order in which they are started."""
    sizes = []
    exchange._communicator.mean = lambda array: sizes.append(array.size)
    return sizes


def make(engine, groups, text=CLASSIFIER, passes=1, least=1):
    from caffetools.solver.exchange_cu import GradientExchange

    net = classifier(engine, text)
    exchange = GradientExchange(net, groups[0], passes, least)
    net.gradients_done.append(exchange.gradients_done)
    return net, exchange


def test_means_start_while_the_layers_before_go_backward(engine, groups):
    net, exchange = make(engine, groups)
    sizes, seen = counting(exchange, groups[0]), {}
    net.before_backward.append(lambda i: seen.update({net.layer_names[i]: len(sizes)}))
    exchange.on_start()
    iteration(net)
    assert (seen["ip2"], seen["relu"], seen["ip1"]) == (1, 2, 2)
    exchange.on_gradients_ready()
    assert sizes == [48, 48, 64]


@pytest.mark.skipif(not numba.config.ENABLE_CUDASIM, reason="the order is worked out in the simulator")
@pytest.mark.parametrize(
    ("beside", "looks"),
    [(True, False), (True, True), (False, False)],
    ids=["beside the backward pass", "beside it, and somebody looks at gradients", "at the end"],
)
def test_means_wait_for_gradients_and_the_update_for_means(beside, looks, engine, groups, monkeypatch):
    net, exchange = make(engine, groups)
    if not beside:
        net.gradients_done.clear()
    if looks:
        net.after_backward.append(lambda i: [blob.diff for blob in net.params])
    order = Order(engine, monkeypatch, late=True)
    order.add_stream("exchange", exchange._communicator.stream)
    exchange._communicator.mean = lambda array: order.use("exchange", address_of(array), True)
    for _ in range(3):
        exchange.on_start()
        iteration(net)
        exchange.on_gradients_ready()
        net.update()


LOOKS = {
    "diff": lambda blob: blob.flat_diff.copy(),
    "cpu_diff": lambda blob: blob.cpu_diff.ravel().copy(),
    "gpu_diff": lambda blob: blob.gpu_diff.copy_to_host(),
    "mutable_gpu_diff": lambda blob: blob.mutable_gpu_diff.copy_to_host(),
}


@pytest.mark.skipif(not numba.config.ENABLE_CUDASIM, reason="the means come late in the simulator")
@pytest.mark.parametrize("look", LOOKS)
def test_who_looks_at_gradients_in_exchange_sees_their_means_and_changes_nothing(look, engine, groups):
    from caffetools.engine.gpu.memory import host_view

    net, exchange = make(engine, groups)
    started, seen = [], {}
    exchange._communicator.mean = lambda array: started.append(host_view(array))

    def arrive(stream):
        while started:
            started.pop()[:] = 7

    exchange._done.hold = arrive
    ip3 = net.params[-2]
    net.after_backward.append(lambda i: seen.update({net.layer_names[i]: LOOKS[look](ip3).tolist()}))
    exchange.on_start()
    iteration(net)
    assert 7 not in seen["ip3"]
    assert seen["ip2"] == seen["ip1"] == [7] * ip3.count
    exchange.on_gradients_ready()
    for blob in net.params:
        assert blob.gpu_diff.copy_to_host().tolist() == [7] * blob.count


def test_layers_still_run_as_one(engine, groups):
    from caffetools.solver.exchange_cu import GradientExchange

    net = net_of(["Scale", "ReLU"], engine)
    exchange = GradientExchange(net, groups[0], passes=1, least_bytes=1)
    net.gradients_done.append(exchange.gradients_done)
    sizes = counting(exchange, groups[0])
    exchange.on_start()
    iteration(net)
    assert net.runs_fused and all(step.ran for step in net._fused.by_layer.values())
    assert sum(sizes) == net.flat_diff.size
    exchange.on_gradients_ready()
    assert sum(sizes) == net.flat_diff.size


def test_only_the_last_pass_of_a_step_is_followed(engine, groups):
    net, exchange = make(engine, groups, passes=2)
    sizes = counting(exchange, groups[0])
    for _ in range(2):
        exchange.on_start()
        iteration(net)
        assert sizes == []
        iteration(net)
        assert sizes == [48, 48, 64]
        exchange.on_gradients_ready()
        sizes.clear()


def test_all_means_at_the_end(engine, groups):
    net, exchange = make(engine, groups, least=200)
    net.gradients_done.clear()
    sizes = counting(exchange, groups[0])
    exchange.on_start()
    iteration(net)
    assert sizes == []
    exchange.on_gradients_ready()
    assert sizes == [96, 64]


def test_no_mean_starts_while_debug_info_reads_the_gradients(engine, groups):
    net, exchange = make(engine, groups)
    sizes = counting(exchange, groups[0])
    net.debug_info = True
    exchange.on_start()
    iteration(net)
    assert sizes == []
    exchange.on_gradients_ready()
    assert sizes == [48, 48, 64]


def test_means_and_copies(engine, groups):
    from caffetools.engine.gpu.communicator import PipeCommunicator
    from caffetools.engine.gpu.memory import to_device

    mine, other = (PipeCommunicator(engine, group) for group in groups)
    a, b = to_device(engine, np.float32([1, 2, 3])), to_device(engine, np.float32([3, 8, -3]))
    thread = threading.Thread(target=other.mean, args=[b])
    thread.start()
    mine.mean(a)
    thread.join(30)
    assert a.copy_to_host().tolist() == b.copy_to_host().tolist() == [2, 5, 0]
    c = to_device(engine, np.float32([7, 7, 7]))
    thread = threading.Thread(target=other.copy_from_rank_0, args=[c, engine.stream])
    thread.start()
    mine.copy_from_rank_0(a, engine.stream)
    thread.join(30)
    assert c.copy_to_host().tolist() == [2, 5, 0]


def test_a_steady_step_costs_nothing_else(engine, groups):
    net, exchange = make(engine, groups)
    counting(exchange, groups[0])
    for step in range(5):
        if step == 2:
            engine.counters.reset()
        exchange.on_start()
        iteration(net)
        exchange.on_gradients_ready()
        net.update()
    assert asdict(engine.counters) == NOTHING


def test_gradients_of_a_layer_on_the_host_go_to_the_device(engine, groups):
    net, exchange = make(engine, groups)
    counting(exchange, groups[0])
    iteration(net)
    blob = net.params[0]
    blob.diff[...] = 5
    exchange.on_start()
    exchange.on_gradients_ready()
    (part,) = [part for part in exchange.parts if part.start == 0]
    assert part.array.copy_to_host()[: blob.count].tolist() == [5] * blob.count
