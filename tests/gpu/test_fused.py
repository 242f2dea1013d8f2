"""BatchNorm, Scale and ReLU as one on the GPU: the numbers of the layers one by one, and of the CPU."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest

from caffetools.engine.cpu.rng import RandomSource
from caffetools.formats import prototxt
from caffetools.layer import TEST, TRAIN, Context
from caffetools.net import load_net
from caffetools.proto import caffe_pb2
from tests.gpu.test_iteration import NOTHING

GAUSS = 'type: "gaussian" mean: 1 std: 0.5'
RANDOM_SCALE = f"scale_param {{ filler {{ {GAUSS} }} bias_term: true bias_filler {{ {GAUSS} }} }}"
LAYERS = {
    "Scale": f'layer {{ name: "s" type: "Scale" bottom: "c" top: "c" {RANDOM_SCALE} }}',
    "plain Scale": 'layer { name: "s" type: "Scale" bottom: "c" top: "c" scale_param { filler { value: 0.7 } } }',
    "ReLU": 'layer { name: "r" type: "ReLU" bottom: "c" top: "c" }',
    "leaky ReLU": 'layer { name: "r" type: "ReLU" bottom: "c" top: "c" relu_param { negative_slope: 0.2 } }',
}
CHAINS = [["Scale", "ReLU"], ["Scale"], ["plain Scale", "leaky ReLU"], ["ReLU"]]
each = pytest.mark.parametrize("chain", CHAINS, ids=" and ".join)


def net_of(chain, engine, phase=TRAIN, more="", plan=False):
    text = f"""
    layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ dim: 3 dim: 2 dim: 4 dim: 3 }} }} }}
    layer {{ name: "c" type: "Convolution" bottom: "x" top: "c"
             convolution_param {{ num_output: 4 kernel_size: 2 weight_filler {{ type: "gaussian" }} }} }}
    layer {{ name: "b" type: "BatchNorm" bottom: "c" top: "c" batch_norm_param {{ {more} }} }}
    {"".join(LAYERS[name] for name in chain)}
    layer {{ name: "l" type: "Reduction" bottom: "c" top: "l" loss_weight: 1 reduction_param {{ operation: SUMSQ }} }}
    """
    param = prototxt.parse(text, caffe_pb2.NetParameter)
    net = load_net(param, phase, Context(random=RandomSource(3), engine=engine), plan=plan)
    net.blobs["x"].data[...] = np.random.default_rng(0).standard_normal((3, 2, 4, 3))
    return net


def numbers(net, passes=2, backward=True):
    for _ in range(passes):
        loss = float(net.forward())
        if backward:
            net.clear_param_diffs()
            net.backward()
    return state(net, loss)


def state(net, loss=0.0):
    results = [np.array(loss), net.blobs["c"].cpu_data, net.blobs["c"].cpu_diff]
    for blob in net.params:
        results += [blob.cpu_data, blob.cpu_diff]
    return [np.array(values) for values in results]


def compare(ours, theirs):
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, other, rtol=2e-4, atol=2e-5)


def unfused(net):
    net.before_forward.append(lambda i: None)
    net.before_backward.append(lambda i: None)
    return net


@each
def test_training(chain, engine):
    net = net_of(chain, engine)
    (step,) = net._fused.steps
    assert (step.first, step.last) == (2, 2 + len(chain)) and step.goes_backward
    results = numbers(net)
    compare(results, numbers(unfused(net_of(chain, engine))))
    compare(results, numbers(net_of(chain, None)))


@each
def test_layers_go_backward_one_by_one_after_a_fused_pass(chain, engine):
    expected = numbers(net_of(chain, None), passes=1)
    net = net_of(chain, engine)
    net.forward()
    assert net._fused.steps[0].ran
    # Seen from now on.
    net.after_backward.append(lambda i: None)
    net.clear_param_diffs()
    net.backward()
    compare([values for i, values in enumerate(state(net)) if i], expected[1:])


def test_passes_that_are_seen_backward_run_one_by_one(engine):
    net = net_of(CHAINS[0], engine)
    net.after_backward.append(lambda i: None)
    for _ in range(2):
        net.clear_param_diffs()
        net.forward()
        net.backward()
    engine.counters.reset()
    net.clear_param_diffs()
    net.forward()
    net.backward()
    assert asdict(engine.counters) == NOTHING


@each
def test_collected_statistics(chain, engine):
    nets = [net_of(chain, where, TEST, plan=True) for where in (engine, None)]
    assert len(nets[0]._fused.steps) == 1
    for net in nets:
        for blob, value in zip(net.layer_by_name["b"].blobs, (0.3, 2, 1), strict=True):
            blob.data[...] = value
    ours, theirs = (numbers(net, backward=False) for net in nets)
    compare(ours[:2], theirs[:2])


def test_collected_statistics_that_go_backward_are_left_alone(engine):
    assert net_of(CHAINS[0], engine, more="use_global_stats: true")._fused.steps == []
    assert net_of(CHAINS[0], engine, TEST)._fused.steps == []


def test_chains_that_do_not_fit(engine):
    net = net_of(["ReLU"], engine)
    assert len(net._fused.steps) == 1
    assert net_of([], engine)._fused.steps == []


def test_steady_passes_cost_nothing_else(engine):
    net = net_of(CHAINS[0], engine)
    for _ in range(2):
        net.clear_param_diffs()
        net.forward()
        net.backward()
    engine.counters.reset()
    for _ in range(3):
        net.clear_param_diffs()
        net.forward()
        net.backward()
    assert asdict(engine.counters) == NOTHING
